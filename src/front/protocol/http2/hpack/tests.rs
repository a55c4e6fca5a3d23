//! HPACK tested with the examples of RFC 7541, and with an encoder written for these tests.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::table::STATIC;
use super::*;

type Pair = (Vec<u8>, Vec<u8>);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, Undecodable> {
    let mut fields = Fields::default();
    fields.clear(1 << 20);
    decoder.decode(block, &mut fields)?;
    let pairs = fields.iter();
    Ok(pairs
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn check(blocks: [&str; 3]) {
    let first = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let second = [&first[..], &[("cache-control", "no-cache")]].concat();
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    let mut decoder = Decoder::default();
    for (block, expected) in blocks.iter().zip([&first[..], &second, &third]) {
        let pairs = expected
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        assert_eq!(
            decode(&mut decoder, &hex(block)).unwrap(),
            pairs.collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_requests_of_the_rfc_are_decoded() {
    // RFC 7541, C.3 and, with Huffman codes, C.4.
    check([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
    check([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

#[test]
fn blocks_that_cannot_be_decoded_are_errors() {
    for (block, error) in [
        // RFC 7541 §6.1: index 0; and one after an empty dynamic table.
        ("80", Undecodable::Index),
        ("be", Undecodable::Index),
        ("7e 01 61", Undecodable::Index),
        // §4.2 and §6.3: beyond the setting, and after a field.
        ("3f e2 1f", Undecodable::Resize),
        ("82 20", Undecodable::Resize),
        ("00", Undecodable::Ends),
        ("00 01 61 02 62", Undecodable::Ends),
        ("ff 80", Undecodable::Ends),
        // §5.1: an integer that an implementation does not accept.
        ("ff 80 80 80 80 00", Undecodable::Integer),
        ("00 81 00 00", Undecodable::Huffman),
    ] {
        let decoded = decode(&mut Decoder::default(), &hex(block));
        assert_eq!(decoded, Err(error), "{block}");
    }
}

#[test]
fn a_block_that_unpacks_to_more_than_the_limit_keeps_the_table_and_no_more_fields() {
    let mut decoder = Decoder::default();
    let mut block = vec![0x40, 1, b'x'];
    write_length(&mut block, 4000);
    block.extend([b'y'; 4000]);
    block.extend([0xBE; 200]);
    block.extend(hex("40 01 61 01 62"));
    let mut fields = Fields::default();
    fields.clear(65_536);
    decoder.decode(&block, &mut fields).unwrap();
    assert!(fields.is_too_large());
    assert_eq!(fields.size, 201 * 4033 + 34);
    assert!(fields.bytes.len() < 65_536);
    let newest = decode(&mut decoder, &[0xBE]).unwrap();
    assert_eq!(newest, [(b"a".to_vec(), b"b".to_vec())]);
    let block = [&[0xBF; 1000][..]].concat();
    fields.clear(65_536);
    let bomb = decoder.decode(&block, &mut fields);
    assert_eq!(bomb, Err(Undecodable::Bomb));
}

/// A way to write a field.
#[derive(Debug, Clone)]
enum Way {
    /// By an index of one of the tables, if it is in one.
    Index,
    /// As a literal, indexed or not.
    Literal { indexed: bool, huffman: bool },
    /// After a size update.
    Resized(u16),
}

/// An encoder that keeps its table by RFC 7541 §4, for these tests only.
#[derive(Default)]
struct Encoder {
    entries: VecDeque<Pair>,
    limit: usize,
}

impl Encoder {
    fn evict(&mut self, room: usize) {
        let size = |entries: &VecDeque<Pair>| -> usize {
            let sizes = entries
                .iter()
                .map(|(name, value)| name.len() + value.len() + 32);
            sizes.sum()
        };
        while !self.entries.is_empty() && size(&self.entries) + room > self.limit {
            self.entries.pop_back();
        }
    }

    fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, number: usize) {
        let mask = (1_usize << prefix) - 1;
        if number < mask {
            block.push(first | number as u8);
            return;
        }
        block.push(first | mask as u8);
        let mut rest = number - mask;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }

    fn write(&mut self, block: &mut Vec<u8>, (name, value): &Pair, way: &Way) {
        let tables = STATIC
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .chain(self.entries.iter().map(|(n, v)| (&n[..], &v[..])));
        let at = |wanted: &dyn Fn(&[u8], &[u8]) -> bool| {
            let found = tables.clone().position(|(n, v)| wanted(n, v));
            found.map(|at| at + 1)
        };
        let whole = at(&|n, v| n == name && v == value);
        let named = at(&|n, _| n == name).unwrap_or(0);
        let (indexed, huffman) = match (way, whole) {
            (Way::Index, Some(index)) => return Self::integer(block, 0x80, 7, index),
            (Way::Literal { indexed, huffman }, _) => (*indexed, *huffman),
            _ => (true, false),
        };
        match indexed {
            true => Self::integer(block, 0x40, 6, named),
            false => Self::integer(block, 0x10, 4, named),
        }
        let strings: &[&Vec<u8>] = if named == 0 { &[name, value] } else { &[value] };
        for string in strings {
            let (first, bytes) = match huffman {
                true => (0x80, huffman::encode(string)),
                false => (0, string.to_vec()),
            };
            Self::integer(block, first, 7, bytes.len());
            block.extend(bytes);
        }
        if indexed {
            let room = name.len() + value.len() + 32;
            self.evict(room);
            if room <= self.limit {
                self.entries.push_front((name.clone(), value.clone()));
            }
        }
    }
}

fn fields() -> impl Strategy<Value = Vec<(Pair, Way)>> {
    let name = prop_oneof![
        Just(b":path".to_vec()),
        Just(b"cookie".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    let value = prop_oneof![
        Just(b"/".to_vec()),
        prop::collection::vec(any::<u8>(), 0..1500),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let way = prop_oneof![
        Just(Way::Index),
        (any::<bool>(), any::<bool>())
            .prop_map(|(indexed, huffman)| Way::Literal { indexed, huffman }),
        (0_u16..=4096).prop_map(Way::Resized),
    ];
    prop::collection::vec(((name, value), way), 0..30)
}

proptest! {
    #[test]
    fn what_an_encoder_writes_is_read(blocks in prop::collection::vec(fields(), 0..6)) {
        let mut encoder = Encoder { limit: 4096, ..Encoder::default() };
        let mut decoder = Decoder::default();
        for fields in blocks {
            let mut block = Vec::new();
            if let Some((_, Way::Resized(limit))) = fields.first() {
                Encoder::integer(&mut block, 0x20, 5, usize::from(*limit));
                encoder.limit = usize::from(*limit);
                encoder.evict(0);
            }
            for (pair, way) in &fields {
                encoder.write(&mut block, pair, way);
            }
            let pairs: Vec<Pair> = fields.into_iter().map(|(pair, _)| pair).collect();
            prop_assert_eq!(decode(&mut decoder, &block).unwrap(), pairs);
        }
    }

    #[test]
    fn literals_without_indexing_are_read_and_leave_the_table_alone(
        pairs in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..8),
        long in 100_usize..20_000,
    ) {
        let mut pairs = pairs;
        pairs.push((b"long".to_vec(), vec![b'x'; long]));
        let mut block = Vec::new();
        for (name, value) in &pairs {
            write_literal(&mut block, name, value);
        }
        let mut decoder = Decoder::default();
        prop_assert_eq!(decode(&mut decoder, &block).unwrap(), pairs);
        prop_assert_eq!(decode(&mut decoder, &[0xBE]), Err(Undecodable::Index));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::default();
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
