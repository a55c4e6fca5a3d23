//! A decoder of HPACK (RFC 7541) for what servers send: all representations, the dynamic
//! table, Huffman codes.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

/// The state of one direction of a connection.
pub struct Decoder {
    dynamic: VecDeque<(String, String)>,
    room: usize,
}

impl Decoder {
    /// A decoder with the initial table size (RFC 9113 §6.5.2: 4,096 bytes).
    pub fn new() -> Self {
        Self {
            dynamic: VecDeque::new(),
            room: 4096,
        }
    }

    /// The field lines of a header block, bytes shown as latin-1.
    ///
    /// # Panics
    /// On a block that breaks the rules.
    pub fn decode(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(&first) = rest.first() {
            match first {
                // RFC 7541 §6.1: indexed field line.
                0x80.. => {
                    let index = integer(&mut rest, 7);
                    fields.push(self.entry(index));
                }
                // §6.2.1: literal with incremental indexing.
                0x40..0x80 => {
                    let field = self.literal(&mut rest, 6);
                    self.dynamic.push_front(field.clone());
                    self.evict();
                    fields.push(field);
                }
                // §6.3: size update of the dynamic table.
                0x20..0x40 => {
                    self.room = integer(&mut rest, 5);
                    self.evict();
                }
                // §6.2.2, §6.2.3: literal without indexing, literal never indexed.
                _ => fields.push(self.literal(&mut rest, 4)),
            }
        }
        fields
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> (String, String) {
        let name = match integer(rest, prefix) {
            0 => string(rest),
            index => self.entry(index).0,
        };
        (name, string(rest))
    }

    fn entry(&self, index: usize) -> (String, String) {
        if let Some((name, value)) = STATIC.get(index - 1) {
            return ((*name).to_owned(), (*value).to_owned());
        }
        self.dynamic[index - 1 - STATIC.len()].clone()
    }

    /// RFC 7541 §4.1: an entry costs 32 bytes more than its strings.
    fn evict(&mut self) {
        let cost = |(name, value): &(String, String)| name.len() + value.len() + 32;
        while self.dynamic.iter().map(cost).sum::<usize>() > self.room {
            self.dynamic.pop_back();
        }
    }
}

/// RFC 7541 §5.1.
fn integer(rest: &mut &[u8], prefix: u32) -> usize {
    let most = (1 << prefix) - 1;
    let mut number = usize::from(next(rest)) & most;
    if number < most {
        return number;
    }
    let mut shift = 0;
    loop {
        let byte = usize::from(next(rest));
        number += (byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

/// RFC 7541 §5.2.
fn string(rest: &mut &[u8]) -> String {
    let is_huffman = rest[0] & 0x80 != 0;
    let length = integer(rest, 7);
    let (bytes, behind) = rest.split_at(length);
    *rest = behind;
    match is_huffman {
        true => huffman(bytes),
        false => super::raw::latin1(bytes),
    }
}

fn next(rest: &mut &[u8]) -> u8 {
    let (byte, behind) = rest.split_first().expect("a complete header block");
    *rest = behind;
    *byte
}

/// RFC 7541 §5.2: the padding is fewer than eight bits, all of them ones.
fn huffman(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(symbol) = CODES.get(&(length, code)) {
            text.push(char::from(*symbol));
            (code, length) = (0, 0);
        }
    }
    assert!(length < 8 && code == (1 << length) - 1, "padding of ones");
    text
}

/// The symbol of each code. RFC 7541, appendix B: the code is canonical, so the lengths alone
/// determine it. EOS, which no string contains, is left out.
static CODES: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let mut symbols: Vec<u8> = (0..=255).collect();
    symbols.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
    let (mut code, mut length) = (0_u32, LENGTHS[usize::from(symbols[0])]);
    let mut codes = HashMap::new();
    for symbol in symbols {
        let longer = LENGTHS[usize::from(symbol)];
        code <<= longer - length;
        length = longer;
        codes.insert((length, code), symbol);
        code += 1;
    }
    codes
});

/// RFC 7541, appendix B: bits of the code of each symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// RFC 7541, appendix C.6: three responses on one connection, with Huffman codes and a dynamic
/// table of 256 bytes, from which entries are evicted.
#[test]
fn the_examples_of_rfc_7541_are_decoded() {
    let mut decoder = Decoder::new();
    decoder.room = 256;
    let bytes = |hex: &str| -> Vec<u8> {
        let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    };
    let first = decoder.decode(&bytes(
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    ));
    let expected = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    assert_eq!(
        first,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let second = decoder.decode(&bytes("4883 640e ffc1 c0bf"));
    assert_eq!(second[0], (":status".to_owned(), "307".to_owned()));
    assert_eq!(second[1..], first[1..]);
    let third = decoder.decode(&bytes(
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ));
    assert_eq!(third[0].1, "200");
    assert_eq!(
        third[5].1,
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    );
}
