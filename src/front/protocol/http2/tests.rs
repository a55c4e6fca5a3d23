//! HTTP/2 below hyper from the socket's view, compared with a reader of its own and with h2.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::Poll;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, PRIORITY_FRAME,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::hpack::{Decoder, Fields, huffman};
use super::*;

const UNKNOWN: u8 = 0x77;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHeader {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    [&head.bytes()[..], payload].concat()
}

fn send(frames: &mut Http2, bytes: &[u8]) {
    frames.sent(
        &[IoSlice::new(bytes)],
        bytes.len(),
        &PendingRefusals::default(),
    );
}

fn http2() -> Http2 {
    let mut frames = Http2::expected();
    receive(&mut frames, PREFACE).unwrap();
    assert!(frames.is_there());
    frames
}

/// The bytes that hyper receives of `bytes`.
fn receive(frames: &mut Http2, bytes: &[u8]) -> Result<Vec<u8>, End> {
    let stay = frames.received(bytes, false, &PendingRefusals::default())?;
    let mut got = bytes[..stay].to_vec();
    loop {
        let mut room = [0; 100];
        let mut into = ReadBuf::new(&mut room);
        frames.give(&mut into);
        if into.filled().is_empty() {
            return Ok(got);
        }
        got.extend(into.filled());
    }
}

/// Number of frames like `frame` that are accepted, up to 100,000.
fn taken(frames: &mut Http2, frame: &[u8]) -> usize {
    let mut each = (0..20_000).take_while(|_| receive(frames, frame).is_ok());
    each.by_ref().count()
}

/// A literal without indexing; names are those of a valid request.
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    hpack::write_literal(&mut block, name.as_bytes(), value);
    block
}

fn head() -> Vec<u8> {
    [
        literal(":method", b"GET"),
        literal(":scheme", b"http"),
        literal(":path", b"/"),
    ]
    .concat()
}

#[test]
fn frames_that_ask_for_nothing_end_and_what_asks_or_brings_does_not() {
    let idle = [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(RST_STREAM, 0, 1, &[0; 4]),
        frame(UNKNOWN, 0, 0, &[]),
        frame(DATA, 0, 1, &[]),
    ];
    for frame in idle {
        let taken = taken(&mut http2(), &frame);
        // Time earns some meanwhile.
        assert!((1000..5000).contains(&taken), "{taken} of {frame:?}");
    }
    let request = frame(HEADERS, END_HEADERS, 1, &head());
    let useful = [
        request.clone(),
        frame(DATA, 0, 1, b"x"),
        frame(DATA, END_STREAM, 1, &[]),
        // A cancelled request, as browsers send it.
        [request, frame(RST_STREAM, 0, 1, &[0; 4])].concat(),
    ];
    for frame in useful {
        assert_eq!(taken(&mut http2(), &frame), 20_000, "{frame:?}");
    }
}

#[test]
fn answers_to_pieces_of_a_response_are_free() {
    let mut frames = http2();
    let piece = frame(DATA, 0, 1, b"piece");
    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 5]);
    let answers = [&update[..], &update, &frame(PING, 0, 0, &[0; 8])].concat();
    for _ in 0..10_000 {
        send(&mut frames, &piece);
        assert!(receive(&mut frames, &answers).is_ok());
    }
    // The server's own responses earn nothing.
    let mut frames = http2();
    let ping = frame(PING, 0, 0, &[0; 8]);
    let pong = frame(PING, 1, 0, &[0; 8]);
    let taken = (0..20_000)
        .take_while(|_| {
            send(&mut frames, &pong);
            receive(&mut frames, &ping).is_ok()
        })
        .count();
    assert!(taken < 5000, "{taken}");
}

/// The stand-in of a malformed request that waits under `stream`.
fn stand_in(stream: u32) -> http::request::Parts {
    let request = http::Request::get("*").version(http::Version::HTTP_2);
    let request = request.header("pyserve-refused", stream).body(());
    request.unwrap().into_parts().0
}

#[test]
fn a_malformed_request_whose_stream_is_refused_is_forgotten() {
    let (mut frames, waiting) = (http2(), PendingRefusals::default());
    let malformed = [head(), literal("x", b"\x01")].concat();
    for stream in [1, 3, 5] {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &malformed);
        frames.received(&bytes, false, &waiting).unwrap();
    }
    for (stream, code) in [(1, code::REFUSED_STREAM), (3, code::STREAM_CLOSED)] {
        let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, code]);
        for part in [&reset[..5], &reset[5..]] {
            frames.sent(&[IoSlice::new(part)], part.len(), &waiting);
        }
    }
    let is_waiting = |stream| waiting.take(&stand_in(stream)).is_some();
    assert_eq!([1, 3, 5].map(is_waiting), [false, true, true]);
}

#[test]
fn resets_for_want_of_memory_are_no_fault_of_a_client_that_reads_them() {
    let (mut frames, waiting) = (http2(), PendingRefusals::default());
    let ping = frame(PING, 0, 0, &[0; 8]);
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, code::REFUSED_STREAM]);
    for _ in 0..1000 {
        waiting.resets_stream();
        frames.sent(&[IoSlice::new(&reset)], reset.len(), &waiting);
        assert!(frames.received(&ping[..0], false, &waiting).is_ok());
    }
    for _ in 0..128 {
        waiting.resets_stream();
    }
    assert!(frames.received(&ping, false, &waiting).is_ok());
    waiting.resets_stream();
    assert_eq!(frames.received(&ping, false, &waiting), Err(End::Open));
}

#[test]
fn resets_that_the_client_provokes_end_the_connection_at_its_next_frame() {
    let mut frames = http2();
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, code::FLOW_CONTROL_ERROR]);
    for part in reset.repeat(128).chunks(7) {
        send(&mut frames, part);
    }
    assert!(receive(&mut frames, &frame(PING, 0, 0, &[0; 8])).is_ok());
    send(&mut frames, &reset.repeat(20));
    let ended = receive(&mut frames, &frame(PING, 0, 0, &[0; 8]));
    assert_eq!(ended, Err(End::Resets));
}

#[test]
fn streams_whose_end_the_client_does_not_read_end_the_connection() {
    let open = |count: u32, is_answered: bool| {
        let mut frames = http2();
        (0..count).find_map(|number| {
            let stream = 2 * number + 1;
            let ended = receive(&mut frames, &frame(HEADERS, END_HEADERS, stream, &head()));
            if is_answered {
                send(
                    &mut frames,
                    &frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]),
                );
            }
            ended.err()
        })
    };
    assert_eq!(open(512, false), None);
    assert_eq!(open(513, false), Some(End::Open));
    assert_eq!(open(2000, true), None);
}

#[test]
fn the_farewell_names_the_last_request_and_stands_between_frames() {
    let mut frames = http2();
    receive(&mut frames, &frame(HEADERS, END_HEADERS, 5, &head())).unwrap();
    let piece = frame(DATA, 0, 5, b"piece");
    send(&mut frames, &piece[..11]);
    assert_eq!(frames.goaway(End::Idle), None);
    send(&mut frames, &piece[11..]);
    let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 11]);
    assert_eq!(frames.goaway(End::Idle).unwrap(), goaway[..]);
}

#[test]
fn a_header_block_of_many_frames_ends_the_connection() {
    let block = head();
    for (frames_behind, is_taken) in [(0, true), (6, true), (7, false), (50, false)] {
        let mut bytes = frame(
            HEADERS,
            if frames_behind == 0 { END_HEADERS } else { 0 },
            1,
            &block,
        );
        for number in 1..=frames_behind {
            let flags = if number == frames_behind {
                END_HEADERS
            } else {
                0
            };
            bytes.extend(frame(CONTINUATION, flags, 1, b""));
        }
        let got = receive(&mut http2(), &bytes);
        match is_taken {
            true => assert_eq!(got.unwrap(), bytes),
            false => assert_eq!(got, Err(End::Continuations)),
        }
    }
}

#[test]
fn frames_that_mean_nothing_to_h2_are_left_out() {
    let mut frames = http2();
    let before = frame(DATA, 0, 1, b"before");
    let behind = frame(DATA, END_STREAM, 1, b"");
    let bytes = [&before[..], &frame(DATA, 0, 1, b""), &behind].concat();
    assert_eq!(
        receive(&mut frames, &bytes).unwrap(),
        [before, behind].concat()
    );
}

/// The bytes of `sent` as a client gets them, if the socket accepts `step` of them at a time.
fn corrected(frames: &mut Http2, sent: &[u8], step: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let (first, second) = sent[got.len()..].split_at((sent.len() - got.len()) / 2);
        let parts = [IoSlice::new(first), IoSlice::new(second)];
        let bytes = frames.corrected(&parts);
        let bytes = bytes.unwrap_or_else(|| [first, second].concat());
        let length = step.min(bytes.len());
        got.extend_from_slice(&bytes[..length]);
        frames.sent(&parts, length, &PendingRefusals::default());
    }
    got
}

#[test]
fn resets_are_sent_with_the_code_of_the_error() {
    let reset = |stream, code| frame(RST_STREAM, 0, stream, &[0, 0, 0, code]);
    // Bytes that merely look like such a frame.
    let sent = [
        frame(DATA, 0, 3, &reset(1, 1)),
        reset(3, 1),
        reset(1, 1),
        frame(DATA, 0, 5, b"x"),
        reset(5, 1),
        reset(7, 8),
    ];
    let mut expected = sent.clone();
    (expected[2], expected[4]) = (
        reset(1, code::STREAM_CLOSED),
        reset(5, code::FRAME_SIZE_ERROR),
    );
    for step in 1..=sent.concat().len() {
        let mut frames = http2();
        for stream in [1, 3, 5, 7] {
            let flags = END_HEADERS | if stream == 1 { END_STREAM } else { 0 };
            receive(&mut frames, &frame(HEADERS, flags, stream, &head())).unwrap();
        }
        assert_eq!(frames.corrected(&[]), None);
        receive(&mut frames, &frame(DATA, 0, 1, b"a")).unwrap();
        receive(&mut frames, &frame(PRIORITY_FRAME, 0, 5, b"right")).unwrap();
        receive(&mut frames, &frame(PRIORITY_FRAME, 0, 5, b"abc")).unwrap();
        receive(&mut frames, &frame(PRIORITY_FRAME, 0, 7, b"abc")).unwrap();
        assert_eq!(
            corrected(&mut frames, &sent.concat(), step),
            expected.concat()
        );
        // Nothing is copied once all are sent.
        assert_eq!(frames.corrected(&[]), None);
    }
}

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A block that a client may send, and the fields that hyper should see.
#[derive(Debug, Clone)]
struct Sent {
    path: Vec<u8>,
    /// An additional field, malformed or not.
    field: (Vec<u8>, Vec<u8>),
    is_indexed: bool,
    huffman: bool,
    padding: Option<u8>,
    priority: bool,
    /// Positions at which the block is cut into frames.
    cuts: Vec<usize>,
    /// A body of so many frames, and of bytes that look like frames.
    data: Vec<Vec<u8>>,
}

impl Sent {
    fn is_malformed(&self) -> bool {
        let (name, value) = &self.field;
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        http::HeaderName::from_lowercase(name).is_err()
            || http::HeaderValue::from_bytes(value).is_err()
            || is_space(value.first())
            || is_space(value.last())
            // RFC 9113 §8.2.2.
            || name == b"te" && value != b"trailers"
            || self.path.first() != Some(&b'/')
            || self.path.iter().any(|byte| *byte <= 32 || *byte == 127)
    }

    fn fields(&self) -> Pairs {
        let path = crate::front::protocol::framing::target::normal(&self.path).into_owned();
        vec![
            (b":method".to_vec(), b"GET".to_vec()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), path),
            self.field.clone(),
        ]
    }

    fn bytes(&self, stream: u32) -> Vec<u8> {
        let mut block = vec![0x82, 0x86];
        for (name, value) in [
            (&b":path"[..], &self.path[..]),
            (&self.field.0, &self.field.1),
        ] {
            block.push(if self.is_indexed { 0x40 } else { 0x10 });
            for string in [name, value] {
                let (first, string) = match self.huffman {
                    true => (0x80, huffman::encode(string)),
                    false => (0, string.to_vec()),
                };
                assert!(string.len() < 127);
                block.push(first | string.len() as u8);
                block.extend(string);
            }
        }
        let mut cuts: Vec<_> = self.cuts.iter().map(|cut| cut % block.len()).collect();
        cuts.extend([0, block.len()]);
        cuts.sort_unstable();
        let last = cuts.len() - 2;
        let mut bytes = Vec::new();
        for (number, part) in cuts.windows(2).enumerate() {
            let mut payload = block[part[0]..part[1]].to_vec();
            let mut flags = if number == last { END_HEADERS } else { 0 };
            let mut kind = CONTINUATION;
            if number == 0 {
                kind = HEADERS;
                if self.data.is_empty() {
                    flags |= END_STREAM;
                }
                if self.priority {
                    flags |= PRIORITY;
                    payload.splice(0..0, [0, 0, 0, 0, 15]);
                }
                if let Some(padding) = self.padding {
                    flags |= PADDED;
                    payload.insert(0, padding);
                    payload.extend(vec![0; usize::from(padding)]);
                }
            }
            bytes.extend(frame(kind, flags, stream, &payload));
        }
        for (number, data) in self.data.iter().enumerate() {
            let ends = number + 1 == self.data.len();
            bytes.extend(frame(DATA, if ends { END_STREAM } else { 0 }, stream, data));
        }
        bytes
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let path = prop_oneof![
        4 => Just(b"/".to_vec()),
        2 => "/[a-z\"{|}<>é]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let name = prop_oneof![
        6 => "x-[a-z]{0,3}".prop_map(String::into_bytes),
        1 => "[a-zA-Z: ]{0,3}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![
        6 => "[ -~]{0,20}".prop_map(|text| text.trim().to_owned().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let data = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..3);
    (
        (path, name, value),
        (
            any::<bool>(),
            any::<bool>(),
            prop::option::of(0_u8..20),
            any::<bool>(),
        ),
        prop::collection::vec(any::<usize>(), 0..3),
        data,
    )
        .prop_map(|((path, name, value), flags, cuts, data)| Sent {
            path,
            field: (name, value),
            is_indexed: flags.0,
            huffman: flags.1,
            padding: flags.2,
            priority: flags.3,
            cuts,
            data,
        })
}

/// The requests and bodies in the bytes for hyper, read by a fresh decoder.
fn read(bytes: &[u8]) -> Vec<(u32, Pairs, Vec<u8>)> {
    let mut decoder = Decoder::default();
    let mut requests = Vec::new();
    let mut block = Vec::new();
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
        let head = FrameHeader::read(*head);
        let (payload, behind) = behind.split_at(head.length);
        rest = behind;
        if head.kind == DATA {
            let (stream, _, body): &mut (u32, _, Vec<u8>) = requests.last_mut().unwrap();
            assert_eq!(*stream, head.stream);
            body.extend(payload);
            continue;
        }
        if head.kind == HEADERS {
            let (within, _) = blocks::fragment(head, payload).unwrap();
            block = payload[within].to_vec();
        } else {
            assert_eq!(head.kind, CONTINUATION);
            block.extend(payload);
        }
        if head.has(END_HEADERS) {
            let mut fields = Fields::default();
            fields.clear(1 << 20);
            decoder.decode(&block, &mut fields).unwrap();
            let pairs = fields.iter();
            let pairs = pairs.map(|(name, value)| (name.to_vec(), value.to_vec()));
            requests.push((head.stream, pairs.collect(), Vec::new()));
        }
    }
    assert!(rest.is_empty());
    requests
}

/// The path and the fields of each request, as h2 reads them.
async fn read_by_h2(bytes: &[u8]) -> Vec<(String, Pairs)> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let (preface, behind) = bytes.split_at(PREFACE.len());
    for part in [preface, &settings, behind] {
        client.write_all(part).await.unwrap();
    }
    let mut builder = h2::server::Builder::new();
    builder.max_local_error_reset_streams(None);
    let mut connection = builder.handshake::<_, bytes::Bytes>(server).await.unwrap();
    let mut requests = Vec::new();
    let mut turns = 3;
    while turns > 0 {
        // All bytes are there. Other tasks may have a turn.
        let polled = poll_fn(|context| Poll::Ready(connection.poll_accept(context))).await;
        let Poll::Ready(accepted) = polled else {
            turns -= 1;
            tokio::task::yield_now().await;
            continue;
        };
        let accepted = accepted.expect("no end of the connection");
        let (request, _respond) = accepted.expect("no error of the connection");
        let fields = request.headers().iter();
        let fields = fields.map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec()));
        requests.push((request.uri().to_string(), fields.collect()));
    }
    requests
}

proptest! {
    #[test]
    fn h2_reads_what_passes_as_it_was_checked(all in prop::collection::vec(sent(), 1..12)) {
        let mut bytes = PREFACE.to_vec();
        let mut expected = Vec::new();
        for (number, sent) in all.iter().enumerate() {
            let stream = 2 * number as u32 + 1;
            bytes.extend(sent.bytes(stream));
            if sent.is_malformed() {
                let field = (b"pyserve-refused".to_vec(), stream.to_string().into_bytes());
                expected.push(("*".to_owned(), vec![field]));
                continue;
            }
            let fields = sent.fields();
            let path = str::from_utf8(&fields[2].1).unwrap();
            // `http` leaves out a fragment.
            let path = path.split('#').next().unwrap().to_owned();
            expected.push((path, vec![sent.field.clone()]));
        }
        let got = receive(&mut Http2::expected(), &bytes).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert_eq!(runtime.block_on(read_by_h2(&got)), expected);
    }

    #[test]
    fn hyper_gets_each_request_or_a_stand_in_however_the_bytes_are_split(
        all in prop::collection::vec(sent(), 1..12),
        cuts in prop::collection::vec(0_usize..3000, 0..12),
    ) {
        let mut bytes = PREFACE.to_vec();
        let mut expected = Vec::new();
        for (number, sent) in all.iter().enumerate() {
            let stream = 2 * number as u32 + 1;
            bytes.extend(sent.bytes(stream));
            let mut fields = sent.fields();
            if sent.is_malformed() {
                let mut block = Vec::new();
                refused::write_stand_in(stream, &Fields::default(), &mut block);
                fields = read(&frame(HEADERS, END_HEADERS, stream, &block)).remove(0).1;
            }
            expected.push((stream, fields, sent.data.concat()));
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut frames = Http2::expected();
        let mut got = Vec::new();
        for part in cuts.windows(2) {
            got.extend(receive(&mut frames, &bytes[part[0]..part[1]]).unwrap());
        }
        prop_assert_eq!(&got[..PREFACE.len()], PREFACE);
        prop_assert_eq!(read(&got[PREFACE.len()..]), expected);
        if !all.iter().any(|sent| sent.is_malformed() || sent.path != b"/") {
            prop_assert_eq!(got, bytes);
        }
    }

    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let mut frames = http2();
        let _verdict = receive(&mut frames, &bytes);
        send(&mut frames, &bytes);
        let _goaway = frames.goaway(End::Idle);
    }
}
