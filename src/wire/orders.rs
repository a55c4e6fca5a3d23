//! What the front tells a worker beside the queue: one SEQPACKET message each, on the socket
//! for orders that every worker has.
//!
//! ```text
//! | kind u32 | thread u32 | seq u64 | patience_ms u32 |
//! ```
//!
//! The answer to [`ToWorker::Stacks`] goes to the descriptor that comes with it, as a
//! variables block of [`ThreadStack`]s up to its end.

use crate::control::cut_to_end;
use crate::{Malformed, malformed, vars};

/// Bytes of an order.
pub const ORDER: usize = 20;

/// From the front to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToWorker {
    /// The supervisor has registered the worker: begin to serve. Always the first order. If the
    /// socket ends without it, the template died before it could register the worker.
    Begin,
    /// Take no more requests, finish those at hand, run the hooks, exit.
    Retire,
    /// As [`ToWorker::Retire`], but instead of exiting become the template that further
    /// workers are forked from. Descriptor: its control socket ([`crate::control`]), on which
    /// the answer comes.
    Promote,
    /// A request is over its deadline: log where it is, and end it.
    Interrupt {
        /// Thread of this worker, from 0.
        thread: u32,
        /// The request; if the thread has come to another one, nothing is done.
        seq: u64,
        /// Time before the front takes other measures, in milliseconds.
        patience_ms: u32,
    },
    /// Tell what every thread does. Descriptor: where the answer goes.
    Stacks {
        /// Longest wait for the interpreter, in milliseconds.
        patience_ms: u32,
    },
}

impl ToWorker {
    /// The message as it is sent.
    pub fn to_bytes(self) -> [u8; ORDER] {
        let (kind, thread, seq, patience_ms): (u32, u32, u64, u32) = match self {
            Self::Retire => (1, 0, 0, 0),
            Self::Interrupt {
                thread,
                seq,
                patience_ms,
            } => (2, thread, seq, patience_ms),
            Self::Stacks { patience_ms } => (3, 0, 0, patience_ms),
            Self::Promote => (4, 0, 0, 0),
            Self::Begin => (5, 0, 0, 0),
        };
        let mut bytes = [0; ORDER];
        bytes[0..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&thread.to_le_bytes());
        bytes[8..16].copy_from_slice(&seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&patience_ms.to_le_bytes());
        bytes
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`ToWorker::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "order";
        let bytes: &[u8; ORDER] = bytes
            .try_into()
            .map_err(|_| malformed(WHAT, "not twenty bytes"))?;
        let u32_at = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(number)
        };
        match u32_at(0) {
            1 => Ok(Self::Retire),
            2 => Ok(Self::Interrupt {
                thread: u32_at(4),
                seq: u64::from(u32_at(12)) << 32 | u64::from(u32_at(8)),
                patience_ms: u32_at(16),
            }),
            3 => Ok(Self::Stacks {
                patience_ms: u32_at(16),
            }),
            4 => Ok(Self::Promote),
            5 => Ok(Self::Begin),
            _ => Err(malformed(WHAT, "unknown kind")),
        }
    }
}

/// The stack of one thread of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThreadStack {
    /// The name that Python knows it by; empty if the text is about all threads.
    pub name: String,
    /// The request that it runs; 0 for none.
    pub seq: u64,
    /// The stack as Python prints it.
    pub text: String,
}

/// Appends a stack to an answer; a longer text loses its beginning.
pub fn push_stack(out: &mut Vec<u8>, stack: &ThreadStack) {
    let mut key = stack.seq.to_le_bytes().to_vec();
    key.extend_from_slice(cut_to_end(&stack.name, 1000).as_bytes());
    let text = cut_to_end(&stack.text, usize::from(u16::MAX));
    vars::push(out, &key, text.as_bytes()).expect("cut to fit");
}

/// Reads an answer, up to where it is cut off.
pub fn read_stacks(block: &[u8]) -> Vec<ThreadStack> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    vars::pairs(block)
        .map_while(Result::ok)
        .filter_map(|(key, value)| {
            let (seq, name) = key.split_first_chunk::<8>()?;
            Some(ThreadStack {
                name: text(name),
                seq: u64::from_le_bytes(*seq),
                text: text(value),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_order_reads_back_as_written() {
        for order in [
            ToWorker::Begin,
            ToWorker::Retire,
            ToWorker::Promote,
            ToWorker::Interrupt {
                thread: 3,
                seq: 1 << 40 | 7,
                patience_ms: 5000,
            },
            ToWorker::Stacks { patience_ms: 9 },
        ] {
            assert_eq!(ToWorker::from_bytes(&order.to_bytes()), Ok(order));
        }
    }

    #[test]
    fn stacks_read_back_as_written_and_long_ones_keep_their_end() {
        let mut stacks = vec![
            ThreadStack {
                name: "MainThread".into(),
                seq: 12,
                text: "File x".into(),
            },
            ThreadStack {
                text: "é".repeat(40_000) + "end",
                ..ThreadStack::default()
            },
        ];
        let mut block = Vec::new();
        for stack in &stacks {
            push_stack(&mut block, stack);
        }
        let read = read_stacks(&block);
        assert!(read[1].text.ends_with("end") && read[1].text.len() <= 65_535);
        stacks[1].text = read[1].text.clone();
        assert_eq!(read, stacks);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ToWorker::from_bytes(&bytes);
            let _ = read_stacks(&bytes);
        }
    }
}
