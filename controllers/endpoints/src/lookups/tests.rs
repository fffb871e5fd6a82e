use std::{future::ready, sync::Arc, time::Duration};

use futures::FutureExt;

use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How long a lookup takes.
const TOOK: Duration = Duration::from_millis(10);

#[derive(Default)]
struct World {
    /// How names are answered; all others never are.
    answers: HashMap<String, Result<Answer, ResolveError>>,
    asked: Vec<String>,
    under_way: usize,
    most: usize,
    changed: Vec<ObjectKey>,
}

struct Bench {
    world: Arc<Mutex<World>>,
    lookups: Arc<Lookups>,
}

impl Bench {
    /// Lookups that run until the test ends.
    fn new() -> Self {
        let world = Arc::<Mutex<World>>::default();
        let ask = {
            let world = Arc::clone(&world);
            move |name| answer(Arc::clone(&world), name).boxed()
        };
        let changed = {
            let world = Arc::clone(&world);
            move |pool: &ObjectKey| world.lock().changed.push(pool.clone())
        };
        let metrics = LookupMetrics::new(&Registry::new());
        let lookups = Arc::new(Lookups::new(ask, metrics, Clock::start(), changed));
        start(&lookups);
        Self { world, lookups }
    }

    fn answers(&self, name: &str, addresses: &[&str], seconds: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let answer = Answer { addresses, valid_for: SECOND * seconds, unanswered: None };
        self.world.lock().answers.insert(name.to_owned(), Ok(answer));
    }

    fn fails(&self, name: &str, error: ResolveError) {
        self.world.lock().answers.insert(name.to_owned(), Err(error));
    }

    fn asked(&self, name: &str) -> usize {
        self.world.lock().asked.iter().filter(|asked| *asked == name).count()
    }

    /// The pools that were called since the last time, in the order of the alphabet.
    fn changed(&self) -> Vec<String> {
        let mut changed: Vec<_> =
            self.world.lock().changed.drain(..).map(|pool| pool.name.to_string()).collect();
        changed.sort();
        changed
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        self.lookups.get(name).addresses.iter().map(ToString::to_string).collect()
    }
}

async fn answer(world: Arc<Mutex<World>>, name: String) -> Result<Answer, ResolveError> {
    {
        let mut world = world.lock();
        world.under_way += 1;
        world.most = world.most.max(world.under_way);
        world.asked.push(name.clone());
    }
    sleep(TOOK).await;
    let answer = world.lock().answers.get(&name).cloned();
    let Some(answer) = answer else { return std::future::pending().await };
    world.lock().under_way -= 1;
    answer
}

fn start(lookups: &Arc<Lookups>) {
    let running = Arc::clone(lookups);
    tokio::spawn(async move { running.run(&Beat::new("look-ups"), CancellationToken::new()).await });
}

fn pool(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

/// What is known before the first answer.
fn unknown(failure: Option<String>) -> Lookup {
    Lookup { addresses: vec![], left_out: 0, unknown: vec![Family::V4, Family::V6], failure, given_up: false }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_at_once_and_again_when_its_answer_has_run_out() {
    let bench = Bench::new();
    bench.answers("db.example", &["10.0.0.1"], 30);
    bench.lookups.want(&pool("a"), ["db.example"]);
    assert_eq!(bench.lookups.get("db.example"), unknown(None));
    sleep(TOOK * 2).await;
    assert_eq!(bench.addresses("db.example"), ["10.0.0.1"]);
    assert_eq!(bench.changed(), ["a"]);
    sleep(SECOND * 29).await;
    assert_eq!(bench.asked("db.example"), 1);
    sleep(SECOND * 2).await;
    assert_eq!((bench.asked("db.example"), bench.changed().len()), (2, 0), "the same addresses are no news");
    bench.answers("db.example", &["10.0.0.2"], 30);
    sleep(SECOND * 30).await;
    assert_eq!((bench.addresses("db.example"), bench.changed()), (vec!["10.0.0.2".into()], vec!["a".into()]));
}

#[tokio::test(start_paused = true)]
async fn addresses_outlive_failures_whose_beginning_and_end_are_told() {
    let bench = Bench::new();
    bench.answers("db.example", &["10.0.0.1"], 5);
    bench.lookups.want(&pool("a"), ["db.example"]);
    sleep(SECOND).await;
    assert_eq!(bench.changed(), ["a"]);
    bench.fails("db.example", ResolveError::TimedOut);
    sleep(SECOND * 60).await;
    let lookup = bench.lookups.get("db.example");
    assert_eq!(lookup.failure.as_deref(), Some("no DNS server answered in time"));
    assert_eq!((bench.addresses("db.example"), bench.changed()), (vec!["10.0.0.1".into()], vec!["a".into()]));
    assert!(bench.asked("db.example") > 4, "it is asked again and again");
    bench.answers("db.example", &["10.0.0.1"], 5);
    sleep(SECOND * 31).await;
    assert_eq!((bench.lookups.get("db.example").failure, bench.changed()), (None, vec!["a".into()]));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_when_a_name_that_was_never_answered_is_known_to_have_no_addresses() {
    let bench = Bench::new();
    bench.fails("db.example", ResolveError::NoSuchName);
    bench.lookups.want(&pool("a"), ["db.example"]);
    sleep(SECOND / 2).await;
    assert_eq!((bench.changed(), bench.lookups.get("db.example").unknown.len()), (vec!["a".into()], 2));
    sleep(SECOND * 62).await;
    assert_eq!((bench.changed(), bench.lookups.get("db.example").unknown.len()), (vec!["a".into()], 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_when_a_name_is_given_up() {
    let bench = Bench::new();
    bench.fails("db.example", ResolveError::TimedOut);
    bench.lookups.want(&pool("a"), ["db.example"]);
    sleep(SECOND * 440).await;
    assert_eq!((bench.changed(), bench.lookups.get("db.example").given_up), (vec!["a".into()], false));
    sleep(SECOND * 60).await;
    assert_eq!((bench.changed(), bench.lookups.get("db.example").given_up), (vec!["a".into()], true));
    assert_eq!(bench.lookups.get("db.example").unknown.len(), 2, "it may still have what it had");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_two_pools_is_asked_once_and_told_to_both() {
    let bench = Bench::new();
    for name in ["both.example", "a.example", "b.example"] {
        bench.answers(name, &["10.0.0.1"], 600);
    }
    bench.lookups.want(&pool("a"), ["a.example", "both.example"]);
    bench.lookups.want(&pool("b"), ["both.example", "b.example"]);
    sleep(SECOND).await;
    assert_eq!(bench.asked("both.example"), 1);
    assert_eq!(bench.changed(), ["a", "a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_forgotten_when_the_last_pool_wants_it_no_longer() {
    let bench = Bench::new();
    bench.answers("db.example", &["10.0.0.1"], 30);
    bench.lookups.want(&pool("a"), ["db.example"]);
    bench.lookups.want(&pool("b"), ["db.example"]);
    sleep(SECOND).await;
    bench.lookups.forget(&pool("a"));
    assert_eq!(bench.addresses("db.example"), ["10.0.0.1"]);
    bench.lookups.want(&pool("b"), []);
    assert_eq!(bench.lookups.get("db.example"), Lookup::default());
    sleep(SECOND * 100).await;
    assert_eq!(bench.asked("db.example"), 1);
    let table = bench.lookups.table.lock();
    assert!(table.wanted.is_empty() && table.due.is_empty() && table.places.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_a_name_that_is_wanted_no_longer_is_no_news() {
    let bench = Bench::new();
    bench.answers("db.example", &["10.0.0.1"], 30);
    bench.lookups.want(&pool("a"), ["db.example"]);
    sleep(TOOK / 2).await;
    assert_eq!(bench.asked("db.example"), 1);
    bench.lookups.forget(&pool("a"));
    sleep(SECOND).await;
    assert_eq!((bench.lookups.get("db.example"), bench.changed().len()), (Lookup::default(), 0));
}

#[tokio::test(start_paused = true)]
async fn at_most_sixteen_look_ups_are_under_way_and_half_of_them_for_one_pool() {
    let bench = Bench::new();
    let names: Vec<String> = (0..100).map(|number| format!("n{number}.example")).collect();
    names.iter().for_each(|name| bench.answers(name, &["10.0.0.1"], 600));
    bench.lookups.want(&pool("a"), names[..50].iter().map(String::as_str));
    sleep(SECOND).await;
    assert_eq!(bench.world.lock().most, 8);
    for name in &names[50..] {
        bench.lookups.want(&pool(name), [name.as_str()]);
    }
    sleep(SECOND).await;
    assert_eq!(bench.world.lock().most, 16);
    assert!(names.iter().all(|name| bench.asked(name) == 1));
}

#[tokio::test(start_paused = true)]
async fn names_that_are_never_answered_hold_up_those_of_no_other_pool_whatever_they_are_called() {
    let bench = Bench::new();
    let hanging: Vec<String> = (0..64).map(|number| format!("a{number}.example")).collect();
    bench.lookups.want(&pool("a"), hanging.iter().map(String::as_str));
    sleep(SECOND).await;
    bench.answers("z.example", &["10.0.0.1"], 5);
    // Nor does it where the pool wants it as well.
    let all = hanging.iter().map(String::as_str).chain(["z.example"]);
    bench.lookups.want(&pool("a"), all);
    bench.lookups.want(&pool("z"), ["z.example"]);
    sleep(SECOND * 30).await;
    assert!(bench.asked("z.example") > 4);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_another_pool_wants_during_its_look_up_is_not_asked_twice() {
    let bench = Bench::new();
    bench.answers("db.example", &["10.0.0.1"], 30);
    bench.lookups.want(&pool("a"), ["db.example"]);
    sleep(TOOK / 2).await;
    bench.lookups.forget(&pool("a"));
    bench.lookups.want(&pool("b"), ["db.example"]);
    sleep(SECOND).await;
    assert_eq!((bench.asked("db.example"), bench.addresses("db.example").len()), (1, 1));
    sleep(SECOND * 30).await;
    assert_eq!((bench.asked("db.example"), bench.changed()), (2, vec!["b".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_panics_is_a_failure_of_its_name_alone() {
    let ask = |name: String| {
        let answer = Answer {
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
            valid_for: SECOND * 600,
            unanswered: None,
        };
        assert_ne!(name, "bad.example", "a bug that one name meets");
        ready(Ok(answer)).boxed()
    };
    let metrics = LookupMetrics::new(&Registry::new());
    let lookups = Arc::new(Lookups::new(ask, metrics, Clock::start(), |_| {}));
    start(&lookups);
    lookups.want(&pool("a"), ["bad.example", "good.example"]);
    sleep(SECOND * 60).await;
    assert!(lookups.get("bad.example").failure.is_some_and(|words| words.contains("defect")));
    assert_eq!(lookups.get("good.example").addresses.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_resolver_each_name_says_why() {
    let error = ResolveError::Server("no DNS server was given".to_owned());
    let (metrics, refused) = (LookupMetrics::new(&Registry::new()), error.clone());
    let refuse = move |_| ready(Err(refused.clone())).boxed();
    let lookups = Arc::new(Lookups::new(refuse, metrics, Clock::start(), |_| {}));
    start(&lookups);
    lookups.want(&pool("a"), ["db.example"]);
    sleep(TOOK).await;
    assert_eq!(lookups.get("db.example"), unknown(Some(error.to_string())));
    assert_eq!(lookups.metrics.lookups.with_label_values(&["Server"]).get(), 1);
}

#[tokio::test]
async fn the_names_of_a_pool_have_no_more_addresses_than_it_may_have_members() {
    let (bench, pools) = (Bench::new(), [pool("a"), pool("b")]);
    let names: Vec<_> = (0..22).map(|name| format!("{name}.example")).collect();
    bench.lookups.want(&pools[0], names.iter().map(String::as_str));
    let block = |block: u8, count: u16| -> Vec<IpAddr> {
        (0..count).map(|host| [10, block, host.to_be_bytes()[0], host.to_be_bytes()[1]].into()).collect()
    };
    names[..20].iter().for_each(|name| bench.lookups.answer(name, &block(0, 1000)));
    let kept = |name: &str| {
        let known = bench.lookups.get(name);
        (known.addresses.len(), known.left_out)
    };
    bench.lookups.answer("20.example", &block(1, 1000));
    bench.lookups.answer("21.example", &block(2, 3));
    assert_eq!([kept("19.example"), kept("20.example"), kept("21.example")], [(1000, 0), (16, 984), (3, 0)]);
    bench.lookups.want(&pools[1], ["20.example"]);
    bench.lookups.answer("20.example", &block(1, 1000));
    assert_eq!(kept("20.example"), (1000, 0), "another pool has room for them");

    bench.lookups.forget(&pools[1]);
    let (known, mut more) = (block(1, 16), block(0, 500));
    bench.lookups.answer("20.example", &known);
    more.extend(&known);
    bench.lookups.answer("20.example", &more);
    let left = bench.lookups.get("20.example");
    assert_eq!((left.addresses, left.left_out), (known, 500), "what is known stays");
}
