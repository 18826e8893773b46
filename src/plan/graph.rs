//! What must come before what, as indices: levels, a circle where there is one, and the heaviest chain.
//!
//! One place for plans of our own and of other tools. Linear in nodes and edges, since a plan file may have been made by
//! a machine. The same input gives the same answer: among equals the lower index comes first. Edges that name a node that
//! is not there, or one node twice, are for the caller to refuse; here they are passed over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nodes sorted by their edges.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Every node after those before it, as close to the order of indices as that allows.
    pub(crate) order: Vec<usize>,
    /// The nodes by the length of the longest chain that leads to them, each level ascending.
    pub(crate) waves: Vec<Vec<usize>>,
}

/// Sorts `count` nodes by edges `(before, after)`.
///
/// # Errors
///
/// A circle: each node must come before the next, and the last before the first. It begins with its lowest index.
pub(crate) fn levels(count: usize, edges: &[(usize, usize)]) -> Result<Levels, Vec<usize>> {
    let after = neighbours(count, edges.iter().copied());
    let mut waits_for = vec![0_usize; count];
    for node in after.iter().flatten() {
        if let Some(number) = waits_for.get_mut(*node) {
            *number += 1;
        }
    }
    let free = waits_for.iter().enumerate().filter(|(_, n)| **n == 0);
    let mut free: BinaryHeap<Reverse<usize>> = free.map(|(node, _)| Reverse(node)).collect();
    let mut level = vec![0_usize; count];
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(node)) = free.pop() {
        order.push(node);
        let own = level.get(node).copied().unwrap_or(0);
        for &next in after.get(node).into_iter().flatten() {
            if let Some(level) = level.get_mut(next) {
                *level = (*level).max(own + 1);
            }
            if let Some(number) = waits_for.get_mut(next) {
                *number -= 1;
                if *number == 0 {
                    free.push(Reverse(next));
                }
            }
        }
    }
    if order.len() < count {
        return Err(circle(count, edges, &waits_for));
    }
    let mut waves: Vec<Vec<usize>> = vec![Vec::new(); level.iter().max().map_or(0, |max| max + 1)];
    for (node, level) in level.into_iter().enumerate() {
        if let Some(wave) = waves.get_mut(level) {
            wave.push(node);
        }
    }
    Ok(Levels { order, waves })
}

/// For each node the other end of its edges, ascending.
fn neighbours(count: usize, edges: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut lists = vec![Vec::new(); count];
    for (from, to) in edges.filter(|(from, to)| from != to && *to < count) {
        if let Some(list) = lists.get_mut(from) {
            list.push(to);
        }
    }
    lists.iter_mut().for_each(|list| {
        list.sort_unstable();
        list.dedup();
    });
    lists
}

/// Walks back from a node that was never free, always to one that was not either: sooner or later it comes round.
fn circle(count: usize, edges: &[(usize, usize)], waits_for: &[usize]) -> Vec<usize> {
    let stuck = |node: &usize| waits_for.get(*node).is_some_and(|number| *number > 0);
    let before = neighbours(count, edges.iter().map(|(before, after)| (*after, *before)));
    let mut seen_at = vec![None; count];
    let mut walk = Vec::new();
    let mut node = (0..count).find(stuck);
    while let Some(at) = node {
        match seen_at.get_mut(at) {
            Some(Some(first)) => {
                let first: usize = *first;
                let mut circle = walk.split_off(first);
                circle.reverse();
                let lowest = circle.iter().enumerate().min_by_key(|(_, node)| **node);
                let lowest = lowest.map_or(0, |(place, _)| place);
                circle.rotate_left(lowest);
                return circle;
            }
            Some(seen) => *seen = Some(walk.len()),
            None => break,
        }
        walk.push(at);
        node = before
            .get(at)
            .and_then(|list| list.iter().copied().find(|n| stuck(n)));
    }
    walk
}

/// The chain of edges whose nodes weigh the most together. `order` holds every node after those before it.
pub(crate) fn heaviest_path(
    order: &[usize],
    edges: &[(usize, usize)],
    weights: &[u64],
) -> Vec<usize> {
    let before = neighbours(
        order.len(),
        edges.iter().map(|(before, after)| (*after, *before)),
    );
    // For each node the weight of the heaviest chain that ends there, and the node before it in that chain.
    let mut best: Vec<(u64, Option<usize>)> = vec![(0, None); order.len()];
    for &node in order {
        let mut heaviest: (u64, Option<usize>) = (0, None);
        for &from in before.get(node).into_iter().flatten() {
            let weight = best.get(from).map_or(0, |(weight, _)| *weight);
            // A chain of nothing is still a chain.
            if heaviest.1.is_none() || weight > heaviest.0 {
                heaviest = (weight, Some(from));
            }
        }
        let own = weights.get(node).copied().unwrap_or(0);
        if let Some(best) = best.get_mut(node) {
            *best = (heaviest.0.saturating_add(own), heaviest.1);
        }
    }
    let last = best
        .iter()
        .enumerate()
        .rev()
        .max_by_key(|(_, (weight, _))| *weight);
    let mut path = Vec::new();
    let mut node = last.map(|(node, _)| node);
    while let Some(at) = node {
        path.push(at);
        node = best.get(at).and_then(|(_, from)| *from);
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_circle_is_named_from_its_lowest_node() {
        assert_eq!(levels(2, &[(0, 1), (1, 0)]), Err(vec![0, 1]));
        // 0 only waits for the circle, 4 only leads to it.
        let edges = [(3, 1), (1, 2), (2, 3), (2, 0), (4, 1)];
        assert_eq!(levels(5, &edges), Err(vec![1, 2, 3]));
        assert_eq!(levels(0, &[]).map(|levels| levels.waves), Ok(vec![]));
    }

    #[test]
    fn a_long_chain_takes_no_stack_and_no_square_of_time() {
        let edges: Vec<_> = (1..200_000).map(|n| (n, n - 1)).collect();
        let levels = levels(200_000, &edges).unwrap();
        assert_eq!(
            (levels.waves.len(), levels.order.first()),
            (200_000, Some(&199_999))
        );
        let path = heaviest_path(&levels.order, &edges, &vec![u64::MAX; 200_000]);
        assert!(!path.is_empty());
        let closed: Vec<_> = edges.iter().copied().chain([(0, 199_999)]).collect();
        assert_eq!(super::levels(200_000, &closed).unwrap_err().len(), 200_000);
    }

    proptest! {
        #[test]
        fn a_circle_is_one(count in 1_usize..9, pairs in prop::collection::vec((0_usize..9, 0_usize..9), 0..16)) {
            if let Err(circle) = levels(count, &pairs) {
                prop_assert!(circle.len() > 1);
                prop_assert_eq!(circle.first(), circle.iter().min());
                for (i, node) in circle.iter().enumerate() {
                    let next = circle[(i + 1) % circle.len()];
                    prop_assert!(pairs.contains(&(*node, next)));
                }
            }
        }
    }
}
