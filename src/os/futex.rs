//! Waking a thread of another process that waits on a word of shared memory (futex(2)).
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex;

/// Changes the word and wakes a thread that waits on it, or is about to.
pub fn wake(word: &AtomicU64) {
    let futex = first_half(word);
    futex.fetch_add(1, Ordering::SeqCst);
    // An error would mean that the address is not mapped. Not PRIVATE: the other process waits on
    // its own mapping of the memory.
    let _woken = futex::wake(futex, futex::Flags::empty(), 1);
}

/// The first four bytes of a word, which all processes access only as such.
fn first_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: within the word, whose alignment is larger; the reference lives as long as the word.
    unsafe { AtomicU32::from_ptr(std::ptr::from_ref(word).cast_mut().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_or_is_about_to_is_woken() {
        let word = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let futex = first_half(&word);
            let seen = futex.load(Ordering::SeqCst);
            let waiting = scope.spawn(move || {
                while futex.load(Ordering::SeqCst) == seen {
                    let _changed = futex::wait(futex, futex::Flags::empty(), seen, None);
                }
            });
            wake(&word);
            waiting.join().unwrap();
        });
    }
}
