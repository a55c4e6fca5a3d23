//! Kills processes with their descendants.

use std::collections::{HashMap, HashSet};

use super::child;
use super::process_stat::{ProcessStat, all_processes};

/// Kills `roots` and their descendants, except `kept` and the descendants of those. The processes are
/// stopped first, so that none forks another one meanwhile. Reads all of `/proc`: not for frequent
/// calls.
pub fn kill(roots: Vec<u32>, kept: &HashSet<u32>) {
    let mut found: HashSet<u32> = HashSet::new();
    let mut new = roots;
    while !new.is_empty() {
        new.iter().copied().for_each(child::stop);
        found.extend(new);
        new = descendants(&found, kept, &parents());
    }
    found.into_iter().for_each(child::kill);
}

/// Kills a process with its descendants in the same session: one with a session of its own was
/// started to run on.
pub fn kill_in_session(root: u32) {
    let session = |pid: u32| ProcessStat::of(pid).ok().and_then(|stat| stat.session);
    let own = session(root);
    let others = all_processes().filter(|pid| session(*pid) != own);
    kill(vec![root], &others.collect());
}

/// Descendants of `known` that are not in it.
fn descendants(known: &HashSet<u32>, kept: &HashSet<u32>, parents: &HashMap<u32, u32>) -> Vec<u32> {
    let mut all = known.clone();
    loop {
        let is_new = |pid: &u32| !all.contains(pid) && !kept.contains(pid);
        let of_known = parents.iter().filter(|(_, parent)| all.contains(*parent));
        let new: Vec<_> = of_known.map(|(pid, _)| *pid).filter(is_new).collect();
        if new.is_empty() {
            return all.difference(known).copied().collect();
        }
        all.extend(new);
    }
}

/// The parent of each living process.
fn parents() -> HashMap<u32, u32> {
    let living = |pid: u32| {
        ProcessStat::of(pid)
            .ok()
            .filter(ProcessStat::is_alive)
            .map(|stat| (pid, stat.parent))
    };
    all_processes().filter_map(living).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_exclude_processes_that_are_kept_and_theirs() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 2), (6, 5), (7, 1), (1, 0)];
        let parents = HashMap::from(parents);
        let mut found = descendants(&HashSet::from([2]), &HashSet::from([5]), &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn a_name_with_parentheses_hides_no_parent() {
        let parent = |text| {
            let stat = ProcessStat::parse(text).filter(ProcessStat::is_alive);
            stat.map(|stat| stat.parent)
        };
        assert_eq!(parent("7 (a) S 1 (b) S 42 7 7"), Some(42));
        assert_eq!(parent("7 (gone) Z 42 7 7"), None);
    }
}
