//! Values that are not UTF-8: a path may be any bytes, and values of settings are text.
//!
//! [`text`] puts a private character into the place of each byte that is not UTF-8, [`path`] and
//! [`string`] take it back, [`shown`] is for people, and [`utf8_alone`] is for values that are text. The
//! characters are at the end of the last plane for private use, so text that means something has
//! none of them.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::error::{Invalid, invalid};

/// The character of byte 0; those from 0x80 on are used.
const FIRST: u32 = 0x10_FE00;

/// The value as text.
pub fn text(value: &OsStr) -> String {
    let mut text = String::with_capacity(value.len());
    for chunk in value.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        let strays = chunk.invalid().iter();
        text.extend(strays.filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))));
    }
    text
}

/// The path that the text of [`text`] stands for.
pub fn path(text: &str) -> PathBuf {
    string(text).into()
}

/// The bytes that the text of [`text`] stands for.
pub fn string(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for char in text.chars() {
        match stray(char) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

/// Refuses a value with bytes that are not UTF-8, where it is not a path.
///
/// # Errors
/// [`Invalid`] for such a value.
pub fn utf8_alone(text: &str) -> Result<(), Invalid> {
    match text.chars().any(|char| stray(char).is_some()) {
        true => Err(invalid("not UTF-8", "write it in UTF-8")),
        false => Ok(()),
    }
}

/// The text for people: bytes that are not UTF-8 are replaced, as in a path that is displayed.
pub fn shown(text: &str) -> Cow<'_, str> {
    match text.chars().any(|char| stray(char).is_some()) {
        true => Cow::Owned(path(text).to_string_lossy().into_owned()),
        false => Cow::Borrowed(text),
    }
}

fn stray(char: char) -> Option<u8> {
    let byte = u32::from(char).checked_sub(FIRST)?;
    u8::try_from(byte).ok().filter(|byte| !byte.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stray_bytes_are_replaced_for_people() {
        let text = text(OsStr::from_bytes(b"/caf\xe9/\xc3\xa9"));
        assert_eq!(shown(&text), "/caf\u{fffd}/é");
        assert_eq!(shown("/é"), "/é");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let native = OsString::from_vec(bytes.clone());
            // A character of ours that is written out is taken for the byte.
            prop_assume!(native.to_str().is_none_or(|text| text.chars().all(|c| stray(c).is_none())));
            prop_assert_eq!(path(&text(&native)).into_os_string().into_vec(), bytes);
        }
    }
}
