//! When each node last renewed its Lease, by the process's own clock.
//!
//! The times in a Lease are the node's own: they are compared with its earlier times, and never with a clock of this
//! process. So no clock skew makes a node look dead, or alive.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use mainstay_runtime::clock::Moment;

use crate::plan::{self, Heartbeat};

/// When the API server has not answered for longer than this, no renewal could be seen: the timers of all nodes restart.
pub const BLIND: Duration = Duration::from_millis(2500);
/// Leases that are renewed more often do not make the watch look broken sooner: a single one of them may stop.
const OFTEN: Duration = Duration::from_secs(5);
/// A kubelet renews its Lease four times in its duration (kubelet, `nodeLeaseRenewIntervalFraction`).
const RENEWALS: u32 = 4;

/// The heartbeats of all nodes.
#[derive(Debug)]
pub struct Heartbeats {
    nodes: HashMap<Arc<str>, Entry>,
    /// Since when all nodes are listened to without a break.
    listening: Moment,
    /// When the API server last answered.
    answered: Moment,
    /// When any Lease was last seen to change, or all were read live.
    news: Moment,
}

#[derive(Debug)]
struct Entry {
    /// Which node of this name it is; empty: only its Lease was seen.
    uid: Box<str>,
    posted: Option<Timestamp>,
    renewed: Option<Timestamp>,
    interval: Option<Duration>,
    heard: Option<Moment>,
    listening: Moment,
}

impl Entry {
    fn first(now: Moment) -> Self {
        Self { uid: Box::default(), posted: None, renewed: None, interval: None, heard: None, listening: now }
    }

    /// The last sign of life, by the clock of the node.
    fn last(&self) -> Option<Timestamp> {
        self.renewed.or(self.posted)
    }
}

impl Heartbeats {
    /// Begins to listen.
    pub fn new(now: Moment) -> Self {
        Self { nodes: HashMap::new(), listening: now, answered: now, news: now }
    }

    fn entry(&mut self, node: &Arc<str>, now: Moment) -> &mut Entry {
        self.nodes.entry(Arc::clone(node)).or_insert_with(|| Entry::first(now))
    }

    /// The Lease of `node` says that it was renewed at this time of the node's clock, and how long it lasts. Any change
    /// is a sign of life, also one back in time: the node's clock was set. The first sight of a Lease is none, since it
    /// may be hours old. Returns whether it is one.
    pub fn renewed(
        &mut self,
        node: &Arc<str>,
        renewed: Option<Timestamp>,
        lasts: Option<Duration>,
        now: Moment,
    ) -> bool {
        let entry = self.entry(node, now);
        let Some(renewed) = renewed else { return false };
        entry.interval = lasts.filter(|lasts| !lasts.is_zero()).map(|lasts| lasts / RENEWALS);
        match entry.renewed.replace(renewed) {
            None => entry.listening = now,
            Some(before) if before == renewed => return false,
            Some(_) => entry.heard = Some(now),
        }
        let is_heard = entry.heard.is_some();
        self.news = now;
        is_heard
    }

    /// The kubelet of `node` says that it posted its status at this time of its own clock. Any change is a sign of life of a node
    /// without a Lease; one with a Lease is judged by that. Returns whether it is one.
    pub fn posted(&mut self, node: &Arc<str>, posted: Option<Timestamp>, now: Moment) -> bool {
        let entry = self.entry(node, now);
        if posted.is_none() || entry.posted == posted {
            return false;
        }
        let is_first = std::mem::replace(&mut entry.posted, posted).is_none();
        if is_first || entry.renewed.is_some() {
            return false;
        }
        entry.heard = Some(now);
        true
    }

    /// There is a node of this name and UID, with or without a Lease. What was seen of another node of its name says nothing of
    /// it, and nothing counts against it from before it was known.
    pub fn known(&mut self, node: &Arc<str>, uid: &str, now: Moment) {
        let entry = self.entry(node, now);
        if *entry.uid == *uid {
            return;
        }
        if !entry.uid.is_empty() {
            *entry = Entry::first(now);
        }
        (entry.uid, entry.listening) = (uid.into(), now);
    }

    /// The node tells of another boot than before: whatever its Lease says, it lives.
    pub fn booted(&mut self, node: &Arc<str>, now: Moment) {
        let entry = self.entry(node, now);
        match entry.renewed {
            Some(_) => entry.heard = Some(now),
            // It is about to have one.
            None => entry.listening = now,
        }
    }

    /// The Lease of `node` is gone: what it said says nothing any more, and its next post is a sign of life. Where the node is
    /// gone as well, nothing is kept.
    pub fn lease_gone(&mut self, node: &str, now: Moment) {
        let Some(entry) = self.nodes.get_mut(node) else { return };
        if entry.uid.is_empty() {
            self.nodes.remove(node);
        } else {
            *entry = Entry { uid: std::mem::take(&mut entry.uid), posted: entry.posted, ..Entry::first(now) };
        }
    }

    /// The node is gone.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// The API server has answered. If it was away, the timers of all nodes restart, and true is returned.
    pub fn pulse(&mut self, now: Moment) -> bool {
        let was_away = now.saturating_sub(self.answered) > BLIND;
        self.answered = now;
        if was_away {
            self.listening = now;
            self.news = now;
        }
        was_away
    }

    /// The Leases of all nodes were read live and recorded.
    pub fn all_read(&mut self, now: Moment) {
        self.news = now;
    }

    /// The timers of all nodes restart.
    pub fn restart(&mut self, now: Moment) {
        self.listening = now;
        self.answered = now;
        self.news = now;
    }

    /// Whether nothing is known about any node: the API server does not answer, or no renewal was seen for a time in
    /// which either no node is alive or the watch is broken. A live read of all Leases decides which.
    pub fn is_blind(&self, now: Moment) -> bool {
        now.saturating_sub(self.answered) > BLIND || self.is_deaf(now)
    }

    /// Whether no Lease renewal was seen for longer than it should take any node.
    pub fn is_deaf(&self, now: Moment) -> bool {
        let interval = self.nodes.values().filter_map(|entry| entry.interval).min();
        interval.is_some_and(|interval| now.saturating_sub(self.news) > plan::late(interval.max(OFTEN)))
    }

    /// The heartbeat of `node`. `None`: it is not known.
    pub fn of(&self, node: &str) -> Option<Heartbeat> {
        let entry = self.nodes.get(node)?;
        let listening = entry.listening.max(self.listening);
        Some(Heartbeat { heard: entry.heard, listening, interval: entry.interval, renewed: entry.last() })
    }

    /// The last renewal of `node` that was seen, or without a Lease when it last posted its status, by its own clock.
    pub fn renewal(&self, node: &str) -> Option<Timestamp> {
        self.nodes.get(node)?.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Option<Duration> = Some(Duration::from_secs(40));

    fn at(second: u64) -> Moment {
        Duration::from_secs(second)
    }

    fn time(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    fn heard(heartbeats: &Heartbeats) -> (Option<Moment>, Moment) {
        let heartbeat = heartbeats.of("n").unwrap();
        (heartbeat.heard, heartbeat.silent_since())
    }

    #[test]
    fn any_change_is_a_sign_of_life_and_the_first_sight_is_none() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        assert_eq!(heartbeats.of("n"), None);
        assert!(!heartbeats.renewed(&node, time(1000), LASTS, at(5)));
        assert_eq!(heard(&heartbeats), (None, at(5)), "it may be hours old");
        assert!(!heartbeats.renewed(&node, time(1000), LASTS, at(8)), "nothing new");
        assert!(heartbeats.renewed(&node, time(1010), LASTS, at(9)));
        assert!(heartbeats.renewed(&node, time(10), LASTS, at(19)), "the node's clock was set back");
        assert_eq!(heard(&heartbeats), (Some(at(19)), at(19)));
        assert_eq!(heartbeats.of("n").unwrap().interval, Some(at(10)));
        assert_eq!(heartbeats.renewal("n"), time(10));
    }

    #[test]
    fn who_has_booted_lives_before_its_lease_says_so() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        heartbeats.booted(&node, at(3));
        assert_eq!(heard(&heartbeats), (None, at(3)), "without a Lease its silence says no more than before");
        heartbeats.renewed(&node, time(1000), LASTS, at(5));
        heartbeats.renewed(&node, time(1010), LASTS, at(15));
        heartbeats.booted(&node, at(60));
        assert_eq!(heard(&heartbeats).0, Some(at(60)));
    }

    #[test]
    fn silences_begin_anew_when_the_api_server_was_away() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        heartbeats.renewed(&node, time(1), LASTS, at(0));
        heartbeats.renewed(&node, time(2), LASTS, at(1));
        assert!(!heartbeats.pulse(at(2)));
        assert!(!heartbeats.is_blind(at(4)));
        assert!(heartbeats.is_blind(at(5)));
        assert!(heartbeats.pulse(at(32)));
        assert_eq!(heard(&heartbeats), (Some(at(1)), at(32)), "30 s of it nobody could have heard");
        assert!(!heartbeats.pulse(at(33)));
        heartbeats.restart(at(40));
        assert_eq!(heard(&heartbeats).1, at(40));
    }

    #[test]
    fn who_hears_of_no_lease_at_all_is_blind_until_all_were_read() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        for second in 0..=100 {
            heartbeats.pulse(at(second));
        }
        assert!(!heartbeats.is_blind(at(100)), "there is nobody to be heard");
        heartbeats.renewed(&node, time(1), LASTS, at(100));
        heartbeats.renewed(&"other".into(), time(1), LASTS, at(101));
        for second in 101..=113 {
            heartbeats.pulse(at(second));
        }
        assert!(!heartbeats.is_blind(at(113)), "a renewal may be a little late");
        assert!(heartbeats.is_blind(at(114)) && heartbeats.is_deaf(at(114)));
        // Nothing new in what was read: they are silent, and that is certain for a while.
        heartbeats.renewed(&node, time(1), LASTS, at(114));
        heartbeats.all_read(at(114));
        assert!(!heartbeats.is_blind(at(115)));
        assert_eq!(heard(&heartbeats), (None, at(100)), "its silence goes on");
    }

    #[test]
    fn one_lease_that_lasts_for_a_moment_makes_nobody_deaf() {
        let mut heartbeats = Heartbeats::new(at(0));
        heartbeats.renewed(&"odd".into(), time(1), Some(Duration::from_secs(1)), at(0));
        heartbeats.renewed(&"n".into(), time(1), LASTS, at(0));
        for second in 1..=6 {
            heartbeats.pulse(at(second));
            assert!(!heartbeats.is_blind(at(second)), "{second}");
        }
        assert!(heartbeats.is_deaf(at(7)));
    }

    #[test]
    fn a_lease_that_is_gone_leaves_a_node_that_was_never_heard() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        heartbeats.known(&node, "u", at(1));
        assert_eq!(heartbeats.of("n").unwrap().interval, None);
        heartbeats.renewed(&node, time(1), LASTS, at(2));
        heartbeats.renewed(&node, time(2), LASTS, at(3));
        heartbeats.lease_gone(&node, at(9));
        let expected = Heartbeat { heard: None, listening: at(9), interval: None, renewed: None };
        assert_eq!(heartbeats.of("n"), Some(expected));
        heartbeats.forget("n");
        assert_eq!(heartbeats.of("n"), None);
        heartbeats.lease_gone("n", at(10));
        assert_eq!(heartbeats.of("n"), None, "nothing is kept of a node that is gone");
    }

    #[test]
    fn a_node_without_a_lease_lives_as_long_as_it_posts_its_status() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        heartbeats.known(&node, "u", at(0));
        assert!(!heartbeats.posted(&node, time(1000), at(0)), "it may be hours old");
        assert!(!heartbeats.posted(&node, time(1000), at(4)), "nothing new");
        assert!(heartbeats.posted(&node, time(1005), at(5)));
        assert!(!heartbeats.posted(&node, None, at(7)));
        assert_eq!(heard(&heartbeats), (Some(at(5)), at(5)));
        let last = |heartbeats: &Heartbeats| (heartbeats.of("n").unwrap().renewed, heartbeats.renewal("n"));
        assert_eq!(last(&heartbeats), (time(1005), time(1005)), "each failure has a time of its own");
        heartbeats.renewed(&node, time(1), LASTS, at(8));
        assert!(!heartbeats.posted(&node, time(1010), at(10)), "from now on its Lease counts");
        assert_eq!(last(&heartbeats), (time(1), time(1)));
        heartbeats.lease_gone(&node, at(11));
        assert!(heartbeats.posted(&node, time(1015), at(12)), "what it has posted before is known");
    }

    #[test]
    fn a_node_that_is_made_anew_under_its_name_is_another() {
        let (mut heartbeats, node) = (Heartbeats::new(at(0)), "n".into());
        heartbeats.known(&node, "old", at(0));
        heartbeats.renewed(&node, time(1), LASTS, at(1));
        heartbeats.renewed(&node, time(2), LASTS, at(2));
        heartbeats.known(&node, "old", at(3));
        assert_eq!(heard(&heartbeats), (Some(at(2)), at(2)));
        let unheard = Heartbeat { heard: None, listening: at(3600), interval: None, renewed: None };
        heartbeats.known(&node, "new", at(3600));
        assert_eq!(heartbeats.of("n"), Some(unheard), "its time begins anew");
        // Its Lease is seen before it, and may be of the node before.
        heartbeats.forget("n");
        heartbeats.renewed(&node, time(2), LASTS, at(3601));
        heartbeats.known(&node, "third", at(7200));
        assert_eq!(heard(&heartbeats), (None, at(7200)));
    }
}
