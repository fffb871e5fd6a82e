//! From where pods of one class are deleted: fullest domain first, then the preferred node, counted again after each
//! pod.
//!
//! Nodes with the same domains form a cell. Within a cell only the node that lost a pod changes its position, so a
//! sorted set keeps the order; across cells every deleted pod may change it, so each time all are compared. Cells are
//! few (zones, racks), unless a spread key distinguishes every node; the cost then is deleted pods times nodes.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    ops::Range,
};

use super::{
    types::{MAX_SPREAD_KEYS, Node, NodePreference},
    why::Why,
};

/// How many pods the domains of a cell hold, key by key.
type Fullness = [usize; MAX_SPREAD_KEYS];

/// What is left of the group, arranged by domain and node. Pods are named by their place in the ranking.
pub(super) struct Board {
    prefer: NodePreference,
    /// How many pods each domain of each key holds.
    domains: Vec<usize>,
    nodes: Vec<Seats>,
    /// Those that still have a pod to give.
    cells: Vec<Cell>,
}

/// A node and those of the class on it, in the order they go.
struct Seats {
    cell: usize,
    own: usize,
    any: usize,
    queue: VecDeque<usize>,
}

/// Nodes that share all domains.
struct Cell {
    /// Indices into the board's domains, one a key.
    domains: [usize; MAX_SPREAD_KEYS],
    turns: BTreeSet<Turn>,
}

/// A node's position for losing its next pod; the lowest comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    preference: usize,
    /// The node's next pod. No two nodes share it, so a turn is never equal to another.
    place: usize,
    node: usize,
}

impl Board {
    /// Arranges pods that are ranked, of which it is given where they run, from the start of `class` on. Those before it
    /// are gone already, those after it count but stay.
    pub(super) fn new<'a>(
        prefer: NodePreference,
        ranked: impl Iterator<Item = Option<Node<'a>>>,
        class: Range<usize>,
    ) -> Self {
        let mut board = Self { prefer, domains: Vec::new(), nodes: Vec::new(), cells: Vec::new() };
        let mut index = Index::default();
        for (place, node) in ranked.enumerate() {
            let Some(node) = node else { continue };
            let id = index.node(&mut board, node);
            let seats = &mut board.nodes[id];
            if place < class.start {
                seats.any = seats.any.saturating_sub(1);
                continue;
            }
            seats.own += 1;
            if place < class.end {
                seats.queue.push_back(place);
            }
            for domain in board.cells[seats.cell].domains {
                board.domains[domain] += 1;
            }
        }
        for node in 0..board.nodes.len() {
            let turn = board.turn(node);
            board.cells[board.nodes[node].cell].turns.extend(turn);
        }
        board.cells.retain(|cell| !cell.turns.is_empty());
        board
    }

    /// Takes `count` pods, or all. Each comes with the first rule by which another pod of its class was better
    /// placed at that moment, if there was one.
    pub(super) fn take(mut self, count: usize) -> Vec<(usize, Option<Why>)> {
        (0..count).map_while(|_| self.take_one()).collect()
    }

    fn take_one(&mut self) -> Option<(usize, Option<Why>)> {
        let order = |cell: &Cell| Some((Reverse(self.fullness(cell)), *cell.turns.first()?));
        let ordered = self.cells.iter().enumerate().filter_map(|(id, cell)| Some((order(cell)?, id)));
        let ((Reverse(fullness), turn), id) = ordered.min()?;
        let why = self.better_placed(fullness, turn.preference);

        for domain in self.cells[id].domains {
            self.domains[domain] -= 1;
        }
        let seats = &mut self.nodes[turn.node];
        seats.queue.pop_front();
        seats.own -= 1;
        seats.any = seats.any.saturating_sub(1);
        let next = self.turn(turn.node);
        let turns = &mut self.cells[id].turns;
        turns.pop_first();
        turns.extend(next);
        if turns.is_empty() {
            self.cells.swap_remove(id);
        }
        Some((turn.place, why))
    }

    fn better_placed(&self, fullness: Fullness, preference: usize) -> Option<Why> {
        let last = |cell: &Cell| cell.turns.last().map(|turn| turn.preference);
        if self.cells.iter().any(|cell| self.fullness(cell) != fullness) {
            Some(Why::Spread)
        } else if self.cells.iter().any(|cell| last(cell) != Some(preference)) {
            Some(Why::NodePreference)
        } else {
            None
        }
    }

    fn fullness(&self, cell: &Cell) -> Fullness {
        cell.domains.map(|domain| self.domains[domain])
    }

    fn turn(&self, node: usize) -> Option<Turn> {
        let Seats { own, any, ref queue, .. } = self.nodes[node];
        let preference = match self.prefer {
            NodePreference::CrowdedNode => usize::MAX - own,
            // Each pod taken makes the node emptier, so among equals the next is taken from the same one.
            NodePreference::EmptiestNode => any,
        };
        queue.front().map(|&place| Turn { preference, place, node })
    }
}

/// Finds nodes, cells and domains by what identifies them while a board is set up.
#[derive(Default)]
struct Index<'a> {
    nodes: HashMap<&'a str, usize>,
    cells: HashMap<[usize; MAX_SPREAD_KEYS], usize>,
    domains: HashMap<(usize, Option<&'a str>), usize>,
}

impl<'a> Index<'a> {
    /// The id of `node` on `board`, where it, its domains and its cell are put unless they are there.
    fn node(&mut self, board: &mut Board, node: Node<'a>) -> usize {
        if let Some(&id) = self.nodes.get(node.name) {
            return id;
        }
        let mut domains = [0; MAX_SPREAD_KEYS];
        for (key, value) in node.domains.into_iter().enumerate() {
            domains[key] = *self.domains.entry((key, value)).or_insert_with(|| push(&mut board.domains, 0));
        }
        let empty = || push(&mut board.cells, Cell { domains, turns: BTreeSet::new() });
        let cell = *self.cells.entry(domains).or_insert_with(empty);
        let id = push(&mut board.nodes, Seats { cell, own: 0, any: node.pods, queue: VecDeque::new() });
        self.nodes.insert(node.name, id);
        id
    }
}

/// Appends `item` and returns its index.
fn push<T>(items: &mut Vec<T>, item: T) -> usize {
    items.push(item);
    items.len() - 1
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            tests::{ago, node, pending, pod, replicas, victims},
            types::{Pod, Policy},
        },
        *,
    };

    /// A pod on a node of its own in `zone`.
    fn in_zone<'a>(name: &'a str, zone: &'a str) -> Pod<'a> {
        on(name, Node { domains: [Some(zone), None, None, None], ..node(name) })
    }

    fn on<'a>(name: &'a str, node: Node<'a>) -> Pod<'a> {
        Pod { node: Some(node), ..pod(name) }
    }

    fn names<'a>(policy: &Policy, pods: &[Pod<'a>]) -> Vec<&'a str> {
        victims(policy, pods).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn the_fullest_zone_gives_first_and_is_counted_anew() {
        let pods = [in_zone("a1", "a"), in_zone("b1", "b"), in_zone("b2", "b"), in_zone("b3", "b")];
        let expected = [("b1", Why::Spread), ("b2", Why::Spread), ("a1", Why::Uid)];
        assert_eq!(victims(&replicas(1), &pods), expected);
    }

    #[test]
    fn zones_outrank_age() {
        let old = Pod { ready_since: Some(ago(3_000_000)), ..in_zone("b1", "b") };
        let pods = [in_zone("a1", "a"), old, in_zone("b2", "b")];
        assert_eq!(victims(&replicas(2), &pods), [("b2", Why::Spread)]);
    }

    #[test]
    fn pods_that_stay_anyway_fill_their_zone() {
        let dear = Pod { deletion_cost: 1, ..in_zone("b1", "b") };
        let pods = [in_zone("a1", "a"), dear, in_zone("b2", "b")];
        assert_eq!(names(&replicas(2), &pods), ["b2"]);
    }

    #[test]
    fn pods_that_go_anyway_leave_their_zone() {
        let unready = |name| Pod { ready_since: None, ..in_zone(name, "b") };
        let pods = [in_zone("a1", "a"), in_zone("a2", "a"), in_zone("b1", "b"), unready("b2"), unready("b3")];
        assert_eq!(names(&replicas(2), &pods), ["b2", "b3", "a1"]);
    }

    #[test]
    fn later_keys_break_ties_of_earlier_ones() {
        let at =
            |name, zone, rack| on(name, Node { domains: [Some(zone), Some(rack), None, None], ..node(name) });
        let pods = [at("a1", "a", "r1"), at("a2", "a", "r1"), at("b1", "b", "r2"), at("b2", "b", "r3")];
        assert_eq!(victims(&replicas(2), &pods), [("a1", Why::Spread), ("b1", Why::Spread)]);
        // The second key is spread across zones, and never against the first.
        let pods = [at("a1", "a", "r1"), at("b1", "b", "r1"), at("b2", "b", "r2")];
        assert_eq!(names(&replicas(2), &pods), ["b1"]);
    }

    #[test]
    fn nodes_without_the_label_are_one_domain() {
        let pods = [in_zone("a1", "a"), in_zone("b1", "b"), pod("c1"), on("c2", node("c2"))];
        assert_eq!(names(&replicas(3), &pods), ["c1"]);
    }

    #[test]
    fn pods_without_a_node_are_in_no_domain() {
        let pods =
            [pending("p1"), pending("p2"), pending("p3"), in_zone("a1", "a"), in_zone("b1", "b"), pod("c1")];
        assert_eq!(names(&replicas(2), &pods), ["p1", "p2", "p3", "a1"]);
    }

    #[test]
    fn crowded_nodes_give_first() {
        let pods = [
            on("1a", node("1")),
            on("2a", node("2")),
            on("2b", node("2")),
            on("2c", node("2")),
            on("3a", node("3")),
            on("3b", node("3")),
        ];
        let expected = [
            ("2a", Why::NodePreference),
            ("2b", Why::NodePreference),
            ("3a", Why::NodePreference),
            ("1a", Why::Uid),
            ("2c", Why::Uid),
        ];
        assert_eq!(victims(&replicas(1), &pods), expected);
    }

    #[test]
    fn the_crowd_is_the_group_s_own() {
        let pods = [on("1a", Node { pods: 100, ..node("1") }), on("2a", node("2")), on("2b", node("2"))];
        assert_eq!(names(&replicas(2), &pods), ["2a"]);
    }

    #[test]
    fn the_emptiest_nodes_are_freed_one_after_the_other() {
        let policy = Policy { prefer: NodePreference::EmptiestNode, ..replicas(3) };
        let with = |name, id, pods| on(name, Node { pods, ..node(id) });
        let pods = [
            with("1a", "1", 9),
            with("2a", "2", 3),
            with("3a", "3", 3),
            with("2b", "2", 3),
            with("3b", "3", 3),
            with("4a", "4", 2),
        ];
        let taken = victims(&policy, &pods);
        assert_eq!(
            taken,
            [("4a", Why::NodePreference), ("2a", Why::NodePreference), ("2b", Why::NodePreference)]
        );
    }

    #[test]
    fn pods_that_go_anyway_make_their_node_emptier() {
        let policy = Policy { prefer: NodePreference::EmptiestNode, ..replicas(1) };
        let with = |name, id, pods| on(name, Node { pods, ..node(id) });
        let unready = Pod { ready_since: None, ..with("2b", "2", 3) };
        let pods = [with("1a", "1", 3), with("2a", "2", 3), unready];
        assert_eq!(victims(&policy, &pods), [("2b", Why::NotReady), ("2a", Why::NodePreference)]);
    }

    #[test]
    fn a_domain_with_nothing_left_to_give_is_no_reason() {
        let pods = [in_zone("a1", "a"), in_zone("b1", "b"), in_zone("c1", "c")];
        assert_eq!(victims(&replicas(1), &pods), [("a1", Why::Uid), ("b1", Why::Uid)]);
        let unready = Pod { ready_since: None, ..in_zone("c1", "c") };
        let pods = [in_zone("a1", "a"), in_zone("b1", "b"), unready];
        assert_eq!(victims(&replicas(1), &pods), [("c1", Why::NotReady), ("a1", Why::Uid)]);
    }

    #[test]
    fn zones_outrank_the_preferred_node() {
        let at = |name, zone, pods| {
            on(name, Node { domains: [Some(zone), None, None, None], pods, name, leaving: false })
        };
        let policy = Policy { prefer: NodePreference::EmptiestNode, ..replicas(2) };
        let pods = [at("a1", "a", 1), at("b1", "b", 50), at("b2", "b", 40)];
        assert_eq!(names(&policy, &pods), ["b2"]);
    }
}
