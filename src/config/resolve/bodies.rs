//! Settings of request and response bodies.

use super::{Resolver, listed_choice};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::{CompressTypes, Compression, LocationSettings, SpoolLimits, values};

impl Resolver<'_> {
    /// The settings of every location that has none of its own.
    pub(super) fn location_settings(&mut self) -> Result<LocationSettings, ConfigError> {
        Ok(LocationSettings {
            max_body: self.one("max_body", values::byte_limit)?,
            body_timeout: self.one("body_timeout", values::positive_duration)?,
            buffering: self.one("buffering", values::yes_or_no)?,
            request_buffering: self.one("request_buffering", values::yes_or_no)?,
            compression: self.compression()?,
            normal_path: self.one("normal_path", values::yes_or_no)?,
        })
    }

    pub(super) fn compression(&mut self) -> Result<Compression, ConfigError> {
        let given = self.many("compress", codings)?;
        if given.is_none() {
            self.show_default("compress", "zstd, br, gzip".to_owned());
        }
        let [zstd, brotli, gzip] = given.map_or([true; 3], chosen);
        Ok(Compression {
            zstd,
            brotli,
            gzip,
            min: self.one("compress_min", values::byte_room)?,
            private: self.one("compress_private", values::yes_or_no)?,
        })
    }

    pub(super) fn compress_types(&mut self) -> Result<CompressTypes, ConfigError> {
        let given = self.many("compress_types", |text| {
            let types = text.split(',').map(|part| media_type(part.trim()));
            types.collect::<Result<Vec<_>, _>>()
        })?;
        if given.is_none() {
            self.show_default("compress_types", "text".to_owned());
        }
        Ok(CompressTypes(
            given.map(|given| given.into_iter().flatten().collect()),
        ))
    }

    pub(super) fn response_spool(&mut self) -> Result<SpoolLimits, ConfigError> {
        Ok(SpoolLimits {
            each: self.one("max_response_spool", values::byte_room)?,
            total: self.one("response_spool_total", values::byte_room)?,
        })
    }
}

/// Reads names of codings, or a word for all or none, with commas between.
pub(super) fn codings(text: &str) -> Result<[bool; 3], Invalid> {
    const ALL: [bool; 3] = [true; 3];
    const NONE: [bool; 3] = [false; 3];
    let choices = [
        ("zstd", [true, false, false]),
        ("br", [false, true, false]),
        ("gzip", [false, false, true]),
        ("no", NONE),
        ("off", NONE),
        ("false", NONE),
        ("yes", ALL),
        ("on", ALL),
        ("true", ALL),
    ];
    let read = |part: &str| listed_choice(part.trim(), &choices, 4);
    let all: Vec<_> = text.split(',').map(read).collect::<Result<_, _>>()?;
    Ok(chosen(all))
}

/// Zstandard, brotli and gzip, if any of them names it.
pub(super) fn chosen(given: Vec<[bool; 3]>) -> [bool; 3] {
    [0, 1, 2].map(|coding| given.iter().any(|one| one[coding]))
}

/// `text/html`, `text/*` or `*`, in small letters.
fn media_type(text: &str) -> Result<String, Invalid> {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
    };
    let is_type =
        |(family, kind): (&str, &str)| is_token(family) && (kind == "*" || is_token(kind));
    if text == "*" || text.split_once('/').is_some_and(is_type) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(invalid(
        "no media type",
        "give one without parameters, as in `text/html` or `text/*`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_named_or_all_or_none() {
        assert_eq!(codings("br, gzip"), Ok([false, true, true]));
        assert_eq!(codings("true"), Ok([true; 3]));
        assert_eq!(codings("no"), Ok([false; 3]));
        let remedy = codings("lzma").unwrap_err().remedy;
        assert!(remedy.contains("zstd, br, gzip, no"), "{remedy}");
    }
}
