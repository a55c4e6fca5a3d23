//! A reader of chunked bodies that takes every line end that some server takes: CRLF, a bare LF,
//! a bare CR. A body that ends elsewhere for it than for pyserve could hide a request.

/// The body, and the position behind its end, if `bytes` begin with a chunked body. Line ends
/// are those of `bare`: its byte, alone or as a part of CRLF.
pub fn read(bytes: &[u8], bare: u8) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = line(bytes, &mut at, bare)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = str::from_utf8(&line[..digits.count()]).ok()?;
        let digits = match digits.trim_start_matches('0') {
            "" if !digits.is_empty() => "0",
            digits => digits,
        };
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if !self::line(bytes, &mut at, bare)?.is_empty() {
            return None;
        }
    }
    while !line(bytes, &mut at, bare)?.is_empty() {}
    Some((body, at))
}

fn line<'a>(bytes: &'a [u8], at: &mut usize, bare: u8) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.iter().position(|byte| *byte == bare)?;
    let (line, behind) = (&rest[..end], &rest[end + 1..]);
    *at += end + 1;
    if bare == b'\r' {
        *at += usize::from(behind.first() == Some(&b'\n'));
        return Some(line);
    }
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}
