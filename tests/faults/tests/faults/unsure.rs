//! What the controller asks of the server while it cannot tell whether its stores show things as they are.

use std::time::Duration;

use http::Method;
use mainstay_faults::{
    defect::Defect,
    kind::Kind,
    process::Process,
    scenario::{edit_pod, group},
    server::{Server, controller},
    wire::{self, Call, Request},
};
use mainstay_runtime::reconcile::PACE;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

struct Bed {
    server: Server,
    process: Process,
    calls: UnboundedReceiver<Call>,
    /// How often the pods of the group have been listed.
    lists: usize,
}

impl Bed {
    fn new() -> Self {
        let (client, calls) = wire::client();
        let process = Process::new(client, Defect::None);
        Self { server: Server::default(), process, calls, lists: 0 }
    }

    fn show(&mut self) {
        while self.process.take_any(&self.server).is_some() {}
    }

    /// One reconcile over the group. Returns when the next one is due.
    async fn pass(&mut self) -> Duration {
        self.pass_shown_when(|_| false).await
    }

    /// The same, with all that has changed shown just before a request of this sort is answered.
    async fn pass_shown_when(&mut self, shows: impl Fn(&Request) -> bool) -> Duration {
        let group = self.process.group("a").expect("the store shows it");
        let turn = self.process.turn("a");
        let mut pass = Box::pin(self.process.reconcile(group, turn));
        let (outcomes, told) = loop {
            tokio::select! {
                biased;
                Some(call) = self.calls.recv() => {
                    let request = &call.request;
                    let is_list = request.method == Method::GET && request.kind == Kind::Pod;
                    self.lists += usize::from(is_list && request.name.is_none());
                    let (reply, _) = self.server.handle(request);
                    if shows(request) {
                        while self.process.take_any(&self.server).is_some() {}
                    }
                    call.answer(reply);
                }
                ended = &mut pass => break ended,
            }
        };
        assert!(!outcomes.failed(), "every request succeeds: {outcomes:?}");
        [outcomes.due, told].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    async fn pass_for(&mut self, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let due = self.pass().await;
            tokio::time::advance(due.min(end - Instant::now()).max(PACE)).await;
        }
    }

    fn has_failed(&self) -> bool {
        let group = self.server.group("a").expect("a group");
        group.status.is_some_and(|status| status.failed_revision.is_some())
    }
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_group_whose_store_is_behind_are_listed_less_and_less_often() {
    let mut bed = Bed::new();
    group(&mut bed.server, "a", "a", 2, "i");
    for image in ["i", "j"] {
        bed.server.edit(Kind::Group, "a", |group| {
            group["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
        for _ in 0..20 {
            bed.show();
            bed.pass_for(1).await;
            bed.server.broken_image = Some("j");
            bed.server.kubelet();
        }
    }
    // The watch hangs from here on.
    bed.show();
    edit_pod(
        &mut bed.server,
        |pod| controller(pod).is_some(),
        |pod| pod["metadata"]["annotations"]["a"] = "b".into(),
    );
    bed.pass_for(600).await;
    bed.lists = 0;
    bed.pass_for(600).await;
    assert!((5..20).contains(&bed.lists), "listed {} times in ten minutes", bed.lists);
    assert!(!bed.has_failed(), "what is not certain is not given up");
    bed.show();
    bed.pass_for(61).await;
    assert!(bed.has_failed());
}

/// Its creation has no answer: the process does not know whether it has made the pod, and asks. Just then the watch shows it.
#[tokio::test(start_paused = true)]
async fn a_pod_that_the_store_shows_while_the_server_is_asked_for_it_is_not_made_twice() {
    let mut bed = Bed::new();
    group(&mut bed.server, "a", "a", 1, "i");
    bed.show();
    // Cut off just after the server has made the pod.
    let (group, turn) = (bed.process.group("a").unwrap(), bed.process.turn("a"));
    {
        let mut pass = Box::pin(bed.process.reconcile(group, turn.clone()));
        loop {
            tokio::select! {
                biased;
                Some(call) = bed.calls.recv() => {
                    let makes = call.request.method == Method::POST && call.request.kind == Kind::Pod;
                    let (reply, _) = bed.server.handle(&call.request);
                    if makes {
                        break;
                    }
                    call.answer(reply);
                }
                _ = &mut pass => panic!("it ends without a pod"),
            }
        }
    }
    bed.process.conclude("a", None);
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        bed.pass_shown_when(|request| request.kind == Kind::Pod && request.name.is_some()).await;
    }
    assert_eq!(bed.server.all(Kind::Pod).count(), 1);
}

/// Eight groups whose pods wait for a webhook that does not answer have all workers of the loop.
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_once_in_a_reconcile() {
    let mut bed = Bed::new();
    group(&mut bed.server, "a", "a", 1, "i");
    bed.show();
    let (group, turn, began) = (bed.process.group("a").unwrap(), bed.process.turn("a"), Instant::now());
    let mut pass = Box::pin(bed.process.reconcile(group, turn));
    let mut silent = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(call) = bed.calls.recv() => {
                if call.request.method == Method::POST && call.request.kind == Kind::Pod {
                    silent.push(call);
                    continue;
                }
                let (reply, _) = bed.server.handle(&call.request);
                call.answer(reply);
            }
            _ = &mut pass => break,
        }
    }
    assert!(silent.len() == 1 && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
