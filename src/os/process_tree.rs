//! Kills processes with their descendants.

use std::collections::{HashMap, HashSet};

use super::child;

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
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent(&text)?))
    })
    .collect()
}

/// proc(5), stat: behind the name in parentheses, which may hold any character, the state and the
/// parent. `None` for a zombie.
fn parent(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    let is_alive = !matches!(fields.next()?, "Z" | "X");
    fields.next()?.parse().ok().filter(|_| is_alive)
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
        assert_eq!(parent("7 (a) S 1 (b) S 42 7 7"), Some(42));
        assert_eq!(parent("7 (gone) Z 42 7 7"), None);
    }
}
