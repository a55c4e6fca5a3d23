//! Locks that one connection holds at a time; those who wait get it in their order. Pure.

use std::collections::{HashMap, VecDeque};

use super::protocol::Answer;

/// Numbers of locks are below this.
const MOST_LOCKS: i64 = 1024;

/// All locks that are held.
#[derive(Debug, Default)]
pub struct Locks {
    held: HashMap<i64, Lock>,
}

#[derive(Debug)]
struct Lock {
    holder: u64,
    waiting: VecDeque<u64>,
}

impl Locks {
    /// Takes a lock; `None`: the answer comes when it is free.
    pub fn take(&mut self, connection: u64, number: i64) -> Option<Answer> {
        if !(0..MOST_LOCKS).contains(&number) {
            return Some(Answer::Error("no lock has this number"));
        }
        // A thread waits for one lock at a time; a worker that does not is damaged.
        let mut locks = self.held.values();
        if locks.any(|lock| lock.waiting.contains(&connection)) {
            return Some(Answer::Error("this connection already waits for a lock"));
        }
        match self.held.get_mut(&number) {
            Some(lock) if lock.holder == connection => Some(Answer::Error(
                "this thread holds the lock already and would wait for itself",
            )),
            Some(lock) => {
                lock.waiting.push_back(connection);
                None
            }
            None => {
                let lock = Lock {
                    holder: connection,
                    waiting: VecDeque::new(),
                };
                self.held.insert(number, lock);
                Some(Answer::Yes(Vec::new()))
            }
        }
    }

    /// Gives a lock back, if this connection holds it; returns the one that has it now.
    pub fn give_back(&mut self, connection: u64, number: i64) -> Vec<u64> {
        match self.held.get(&number) {
            Some(lock) if lock.holder == connection => self.pass_on(number).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// True if a connection holds it.
    pub fn is_locked(&self, number: i64) -> bool {
        self.held.contains_key(&number)
    }

    /// Releases all locks of a connection that has ended; returns those that have one now.
    pub fn leave(&mut self, connection: u64) -> Vec<u64> {
        for lock in self.held.values_mut() {
            lock.waiting.retain(|waiting| *waiting != connection);
        }
        let its = self
            .held
            .iter()
            .filter(|(_, lock)| lock.holder == connection);
        let its: Vec<_> = its.map(|(number, _)| *number).collect();
        its.into_iter()
            .filter_map(|number| self.pass_on(number))
            .collect()
    }

    fn pass_on(&mut self, number: i64) -> Option<u64> {
        let lock = self.held.get_mut(&number)?;
        match lock.waiting.pop_front() {
            Some(next) => {
                lock.holder = next;
                Some(next)
            }
            None => {
                self.held.remove(&number);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_goes_from_one_to_the_next() {
        let mut locks = Locks::default();
        let done = Some(Answer::Yes(Vec::new()));
        assert_eq!(locks.take(1, 0), done);
        assert_eq!(locks.take(2, 0), None);
        assert_eq!(locks.take(3, 0), None);
        assert!(matches!(locks.take(1, 0), Some(Answer::Error(_))));
        assert!(matches!(locks.take(2, 1), Some(Answer::Error(_))));
        // Only the holder gives it back.
        assert!(locks.give_back(2, 0).is_empty());
        assert_eq!(locks.give_back(1, 0), [2]);
        assert!(locks.is_locked(0));
        assert!(locks.leave(3).is_empty());
        assert!(locks.give_back(2, 0).is_empty());
        assert!(!locks.is_locked(0));
        assert!(matches!(locks.take(1, -1), Some(Answer::Error(_))));
        assert!(matches!(locks.take(1, MOST_LOCKS), Some(Answer::Error(_))));
    }

    #[test]
    fn the_end_of_a_holder_releases_all_that_it_holds() {
        let mut locks = Locks::default();
        locks.take(1, 0);
        locks.take(1, 1);
        locks.take(2, 0);
        locks.take(3, 1);
        let mut granted = locks.leave(1);
        granted.sort_unstable();
        assert_eq!(granted, [2, 3]);
        assert!(locks.leave(2).is_empty() && locks.leave(3).is_empty());
        assert!(!locks.is_locked(0) && !locks.is_locked(1));
    }
}
