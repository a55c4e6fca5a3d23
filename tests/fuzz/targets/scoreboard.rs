//! The scoreboard as a worker may leave it: any words. The front reads and writes it by its own
//! sizes, and what it takes back stays taken back.

use std::sync::atomic::{AtomicU64, Ordering};

use pyserve_wire::scoreboard::{Claim, Scoreboard};

const THREADS: usize = 3;
const CLAIMS: usize = 5;

/// The first byte chooses claim and number, the others are the words.
pub fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let mut bytes = rest.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        AtomicU64::new(u64::from_le_bytes(word))
    });
    let words: Vec<_> = (0..Scoreboard::size(THREADS, CLAIMS) / 8)
        .map(|_| bytes.next().unwrap_or_default())
        .collect();
    let board = Scoreboard::over(&words, THREADS, CLAIMS);
    let entry = usize::from(*choice) % CLAIMS;
    let seq = u64::from(*choice >> 4) + 1;

    for thread in 0..THREADS {
        let _any = board.line(thread);
    }
    let before = board.claim(entry, seq);
    let withdrawn = board.withdraw(entry, seq);
    assert_eq!(withdrawn, before == Claim::Unclaimed, "{before:?}");
    if withdrawn {
        assert_eq!(board.claim(entry, seq), Claim::Withdrawn);
        assert!(!board.take(entry, seq, 0), "nothing takes it any more");
    }
    let cancelled = board.cancel(entry, seq);
    assert_eq!(cancelled, matches!(before, Claim::Taken(_)), "{before:?}");
    assert_eq!(
        board.is_cancelled(entry, seq),
        cancelled || is_marked(&words, entry, seq)
    );

    // Whatever stood there, a request that is published is the front's own.
    board.publish(entry, seq + 100);
    assert_eq!(board.claim(entry, seq), Claim::Other);
    assert!(board.take(entry, seq + 100, 1));
    assert_eq!(board.claim(entry, seq + 100), Claim::Taken(1));
    board.write_header();
    assert!(board.is_intact());
}

/// Whether the words mark this request as cancelled, whoever wrote that.
fn is_marked(words: &[AtomicU64], entry: usize, seq: u64) -> bool {
    let word = words[words.len() - CLAIMS + entry].load(Ordering::Relaxed);
    word >> 16 == seq && word & 0x8000 != 0
}
