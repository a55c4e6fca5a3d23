//! The Huffman code of HPACK strings (RFC 7541 §5.2 and appendix B), decoded four bits at a time.
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols, and
//! shorter codes come first. So only the lengths are listed here, and the decoder's state machine
//! is built from them at the first use.

use std::sync::LazyLock;

/// A malformed string: it contains EOS, or ends in other bits than the first ones of EOS, or in
/// more than seven of them (RFC 7541 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Appends the decoded string to `into`.
///
/// # Errors
/// If `bytes` are malformed; `into` then holds a part of the string.
pub fn decode(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let machine = &*MACHINE;
    let mut state = 0;
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            let step = machine.steps[usize::from(state)][usize::from(nibble)];
            match step.emits {
                Emits::Nothing => {}
                Emits::Symbol(symbol) => into.push(symbol),
                Emits::Eos => return Err(Malformed),
            }
            state = step.next;
        }
    }
    match machine.may_end[usize::from(state)] {
        true => Ok(()),
        false => Err(Malformed),
    }
}

/// The effect of four bits in one state. The shortest code has five bits: they complete one symbol
/// at most.
#[derive(Clone, Copy)]
struct Step {
    emits: Emits,
    next: u8,
}

#[derive(Clone, Copy)]
enum Emits {
    Nothing,
    Symbol(u8),
    Eos,
}

/// States are the inner nodes of the code's tree: 256, because it has 257 leaves.
struct Machine {
    steps: Vec<[Step; 16]>,
    may_end: Vec<bool>,
}

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let tree = Tree::new();
    let steps = (0..tree.nodes.len()).map(|node| {
        std::array::from_fn(|nibble| {
            let mut emits = Emits::Nothing;
            let mut at = node;
            for bit in (0..4).rev() {
                match tree.nodes[at][nibble >> bit & 1] {
                    Child::Node(next) => at = next,
                    Child::Leaf(symbol) => {
                        emits = u8::try_from(symbol).map_or(Emits::Eos, Emits::Symbol);
                        at = 0;
                    }
                    Child::Open => unreachable!("the code is complete"),
                }
            }
            let next = u8::try_from(at).expect("256 inner nodes");
            Step { emits, next }
        })
    });
    let steps = steps.collect();
    // RFC 7541 §5.2: up to seven bits of padding, each of them set, as at EOS's beginning.
    let mut may_end = vec![false; tree.nodes.len()];
    let mut at = 0;
    for _ in 0..8 {
        may_end[at] = true;
        match tree.nodes[at][1] {
            Child::Node(next) => at = next,
            _ => unreachable!("no code has eight set bits or fewer alone"),
        }
    }
    Machine { steps, may_end }
});

#[derive(Clone, Copy)]
enum Child {
    Open,
    Node(usize),
    Leaf(usize),
}

struct Tree {
    nodes: Vec<[Child; 2]>,
}

impl Tree {
    fn new() -> Self {
        let mut tree = Self {
            nodes: vec![[Child::Open; 2]],
        };
        for (symbol, (code, length)) in codes().into_iter().enumerate() {
            tree.insert(symbol, code, length);
        }
        tree
    }

    fn insert(&mut self, symbol: usize, code: u32, length: u8) {
        let mut at = 0;
        for bit in (1..length).rev() {
            let side = (code >> bit & 1) as usize;
            at = match self.nodes[at][side] {
                Child::Node(next) => next,
                _ => {
                    self.nodes.push([Child::Open; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[at][side] = Child::Node(next);
                    next
                }
            };
        }
        self.nodes[at][(code & 1) as usize] = Child::Leaf(symbol);
    }
}

/// Code and length of each symbol; the last one is EOS.
fn codes() -> [(u32, u8); 257] {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut codes = [(0, 0); 257];
    let (mut code, mut before) = (0_u32, LENGTHS[order[0]]);
    for symbol in order {
        let length = LENGTHS[symbol];
        code <<= length - before;
        codes[symbol] = (code, length);
        code += 1;
        before = length;
    }
    codes
}

/// RFC 7541, appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Encodes `bytes`, for tests.
#[cfg(test)]
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let codes = codes();
    let (mut out, mut bits, mut filled) = (Vec::new(), 0_u64, 0);
    for byte in bytes {
        let (code, length) = codes[usize::from(*byte)];
        bits = bits << length | u64::from(code);
        filled += length;
        while filled >= 8 {
            filled -= 8;
            out.push((bits >> filled) as u8);
        }
    }
    if filled > 0 {
        out.push((bits << (8 - filled)) as u8 | 0xFF >> filled);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut into = Vec::new();
        decode(bytes, &mut into).map(|()| into)
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        // RFC 7541, C.4.1, C.4.2, C.4.3, C.6.1.
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "9d29ad171863c78f0b97c8e9ae82ae43d3",
                "https://www.example.com",
            ),
        ] {
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            assert_eq!(decoded(&bytes).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), bytes);
        }
    }

    #[test]
    fn eos_and_wrong_padding_are_malformed() {
        // RFC 7541 §5.2: EOS; more than seven bits of padding; padding of other bits. `a` is 00011.
        for bytes in [
            &[0xFF, 0xFF, 0xFF, 0xFF][..],
            &[0xFF],
            &[0b0001_1111, 0xFF],
            &[0b0001_1000],
            &[0b0001_1110],
        ] {
            assert_eq!(decoded(bytes), Err(Malformed), "{bytes:x?}");
        }
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert_eq!(decoded(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn what_is_decoded_is_the_only_code_of_it(bytes: Vec<u8>) {
            if let Ok(text) = decoded(&bytes) {
                prop_assert_eq!(encode(&text), bytes);
            }
        }
    }
}
