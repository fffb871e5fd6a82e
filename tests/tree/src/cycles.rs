//! Circles among modules.

use std::collections::{BTreeMap, BTreeSet};

/// Groups of nodes each of which leads to each other, the smallest name first. A node that leads to nobody who leads
/// back is in none.
pub fn cycles<N: Ord + Clone>(edges: &BTreeMap<N, BTreeSet<N>>) -> Vec<Vec<N>> {
    let reached: BTreeMap<&N, BTreeSet<&N>> =
        edges.keys().map(|node| (node, reachable(edges, node))).collect();
    let mut found: BTreeSet<Vec<N>> = BTreeSet::new();
    for (&node, to) in &reached {
        if to.contains(node) {
            let leads_back = |other: &&&N| reached.get(**other).is_some_and(|back| back.contains(node));
            found.insert(to.iter().filter(leads_back).map(|other| (*other).clone()).collect());
        }
    }
    found.into_iter().collect()
}

fn reachable<'a, N: Ord>(edges: &'a BTreeMap<N, BTreeSet<N>>, from: &N) -> BTreeSet<&'a N> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&N> = edges.get(from).into_iter().flatten().collect();
    while let Some(node) = ahead.pop() {
        if found.insert(node) {
            ahead.extend(edges.get(node).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_once_and_what_leads_to_it_is_no_part_of_it() {
        let edges = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b", "d"]), ("d", vec![])];
        let edges = edges.map(|(from, to)| (from, to.into_iter().collect())).into_iter().collect();
        assert_eq!(cycles(&edges), [["b", "c"]]);
    }
}
