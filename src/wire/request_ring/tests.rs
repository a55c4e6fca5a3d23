//! Unit tests of the request ring.

use std::sync::atomic::AtomicUsize;
use std::thread;

use proptest::prelude::*;

use super::*;

fn memory(threads: usize, claims: usize) -> Vec<AtomicU64> {
    (0..RequestRing::size(threads, claims) / WORD)
        .map(|_| AtomicU64::new(0))
        .collect()
}

fn handed(seq: u64, entry: usize) -> Handed {
    Handed {
        seq,
        entry,
        has_descriptor: seq.is_multiple_of(2),
    }
}

fn header(vars: usize, body: usize) -> RequestHeader {
    RequestHeader {
        seq: 7,
        entry: 1,
        body: BodyKind::Inline,
        body_len: body as u64,
        vars_len: vars as u32,
    }
}

#[test]
fn words_are_popped_in_the_order_in_which_they_were_pushed() {
    let words = memory(2, 3);
    let front = RequestRing::create(&words, 2, 3);
    let worker = RequestRing::open(&words).unwrap();
    assert!(worker.is_empty() && worker.pop().is_none());
    let mut tail = 0;
    for seq in 1..1000 {
        tail = front.push(tail, handed(seq, seq as usize % 3)).unwrap();
        assert!(!worker.is_empty() && !front.is_drained(tail));
        assert_eq!(worker.pop(), Some(handed(seq, seq as usize % 3)));
        assert!(front.is_drained(tail));
    }
    assert_eq!(worker.pop(), None);
    let highest = Handed {
        seq: (1 << 47) - 1,
        entry: 0xFFFF,
        has_descriptor: true,
    };
    front.push(tail, highest).unwrap();
    assert_eq!(worker.pop(), Some(highest));
}

#[test]
fn a_full_ring_takes_no_more_and_a_damaged_one_is_noticed() {
    let words = memory(1, 3);
    let ring = RequestRing::create(&words, 1, 3);
    let mut tail = 0;
    for seq in 1..=16 {
        tail = ring.push(tail, handed(seq, 0)).unwrap();
    }
    assert_eq!(ring.push(tail, handed(17, 0)), Err(PushError::Full));
    for head in [tail + 1, u64::MAX] {
        words[HEAD].store(head, Ordering::Relaxed);
        assert_eq!(ring.push(tail, handed(17, 0)), Err(PushError::Damaged));
    }
    words[HEAD].store(0, Ordering::Relaxed);
    assert_eq!(
        ring.push(40, handed(17, 0)),
        Err(PushError::Damaged),
        "set back"
    );
    // A thread survives it too.
    for (head, tail) in [(5, 0), (0, u64::MAX), (u64::MAX, 3), (u64::MAX - 2, 3)] {
        words[HEAD].store(head, Ordering::Relaxed);
        words[TAIL].store(tail, Ordering::Relaxed);
        assert_eq!(ring.pop(), None);
    }
}

#[test]
fn each_word_is_popped_by_one_thread_only() {
    const WORDS: u64 = 20_000;
    let words = memory(4, 8);
    let front = RequestRing::create(&words, 4, 8);
    let seen: Vec<_> = (0..=WORDS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ring = RequestRing::open(&words).unwrap();
                loop {
                    match ring.pop() {
                        Some(word) => {
                            assert_eq!(word.entry, word.seq as usize % 8);
                            seen[word.seq as usize].fetch_add(1, Ordering::Relaxed);
                        }
                        None if ring.has_ended() && ring.is_empty() => return,
                        None => thread::yield_now(),
                    }
                }
            });
        }
        let mut tail = 0;
        for seq in 1..=WORDS {
            let word = handed(seq, seq as usize % 8);
            tail = loop {
                match front.push(tail, word) {
                    Ok(tail) => break tail,
                    Err(PushError::Full) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            };
        }
        front.end();
    });
    let counts = seen[1..].iter().map(|count| count.load(Ordering::Relaxed));
    assert!(counts.into_iter().all(|count| count == 1));
}

#[test]
fn no_thread_waits_while_a_word_is_in_the_ring() {
    // Where a thread would wait on its futex, it spins on its bit.
    const WORDS: u64 = 20_000;
    let words = memory(3, 8);
    let front = RequestRing::create(&words, 3, 8);
    let popped = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..3 {
            let (popped, words) = (&popped, &words);
            scope.spawn(move || {
                let ring = RequestRing::open(words).unwrap();
                let (bits, bit) = ring.waiting_bit(number);
                loop {
                    while ring.pop().is_some() {
                        popped.fetch_add(1, Ordering::Relaxed);
                    }
                    ring.announce_wait(number);
                    if ring.is_empty() && !ring.has_ended() {
                        while bits.load(Ordering::SeqCst) & bit != 0 && !ring.has_ended() {
                            thread::yield_now();
                        }
                    }
                    ring.withdraw_wait(number);
                    if ring.has_ended() && ring.is_empty() {
                        return;
                    }
                }
            });
        }
        let mut tail = 0;
        for seq in 1..=WORDS {
            tail = loop {
                match front.push(tail, handed(seq, 0)) {
                    Ok(tail) => break tail,
                    Err(_) => thread::yield_now(),
                }
            };
            front.choose_waiting(1 + seq as usize % 3);
            if seq % 16 == 0 {
                // Without a lost wake-up each word is popped before the next comes.
                while !front.is_drained(tail) {
                    thread::yield_now();
                }
            }
        }
        front.end();
    });
    assert_eq!(popped.load(Ordering::Relaxed) as u64, WORDS);
}

#[test]
fn waiting_threads_are_chosen_once_and_the_first_of_each_worker_before_the_others() {
    let words = memory(130, 1);
    let ring = RequestRing::create(&words, 130, 1);
    let chosen =
        |each| -> Vec<usize> { std::iter::from_fn(|| ring.choose_waiting(each)).collect() };
    let announce = |threads: &[usize]| threads.iter().for_each(|it| ring.announce_wait(*it));
    assert!(chosen(1).is_empty());
    announce(&[64, 3, 129]);
    assert_eq!(chosen(1), [3, 64, 129]);
    // Workers of four threads: ranks 0, 1, 3, 0 and 1.
    announce(&[0, 1, 3, 64, 129]);
    assert_eq!(chosen(4), [0, 64, 1, 129, 3]);
    announce(&[3, 64]);
    assert_eq!(ring.choose_waiting(1), Some(3));
    assert!(ring.withdraw_wait(64), "it was not chosen");
    assert!(!ring.withdraw_wait(3), "it was");
    assert!(chosen(1).is_empty());
    // Bits of threads that do not exist.
    words[WAITING + 2].store(u64::MAX, Ordering::Relaxed);
    assert_eq!(chosen(2), [128, 129]);
    assert!(chosen(0).is_empty());
}

#[test]
fn what_is_too_long_for_a_slot_is_refused() {
    let words = memory(1, 2);
    let ring = RequestRing::create(&words, 1, 2);
    let most = SLOT - REQUEST_HEADER - WORD;
    assert!(fits(most, 0) && fits(0, most) && fits(1, most - 1));
    assert!(!fits(most, 1) && !fits(1, most) && !fits(usize::MAX, usize::MAX));
    for (vars_len, body_len) in [(u32::MAX, 0), (0, u64::MAX), (9, most as u64)] {
        let header = RequestHeader {
            vars_len,
            body_len,
            ..header(0, 0)
        };
        copy_in(ring.slot(0), &header.to_bytes());
        assert!(ring.header(0).is_err());
    }
    assert!(ring.header(2).is_err(), "no such slot");
}

#[test]
fn foreign_memory_is_not_a_ring() {
    let words = memory(1, 2);
    assert!(RequestRing::open(&words).is_none() && RequestRing::open(&[]).is_none());
    let ring = RequestRing::create(&words, 1, 2);
    assert!(RequestRing::open(&words[..2000]).is_none(), "cut short");
    let tail = ring.push(0, handed(1, 0)).unwrap();
    assert!(ring.is_intact(tail, false) && !ring.is_intact(0, false));
    ring.end();
    assert!(ring.is_intact(tail, true) && !ring.is_intact(tail, false));
    words[2].store(u64::MAX, Ordering::Relaxed);
    assert!(RequestRing::open(&words).is_none() && !ring.is_intact(tail, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_request_reads_back_as_written(
        vars in prop::collection::vec(any::<u8>(), 0..300),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let words = memory(1, 2);
        let ring = RequestRing::create(&words, 1, 2);
        let written = header(vars.len(), body.len());
        ring.write(1, written, &vars, &body, copy_in);
        let read = ring.header(1).unwrap();
        prop_assert_eq!(read, written);
        let (mut block, mut bytes) = (vec![9; 7], vec![9; body.len()]);
        ring.read_vars(1, &read, &mut block);
        copy_out(ring.body(1, &read), &mut bytes);
        prop_assert_eq!((block, bytes), (vars, body));
    }
}
