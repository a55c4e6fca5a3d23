//! Compression of dynamic responses.

/// Media types to compress, and the codings to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compression {
    /// By zstd.
    pub zstd: bool,
    /// By brotli.
    pub brotli: bool,
    /// By gzip.
    pub gzip: bool,
    /// Shortest body, in bytes.
    pub min: u64,
    /// Also what may hold a secret.
    pub private: bool,
}

impl Compression {
    /// True if this content coding may be used.
    pub fn has(&self, coding: &str) -> bool {
        match coding {
            "zstd" => self.zstd,
            "br" => self.brotli,
            "gzip" => self.gzip,
            _ => false,
        }
    }
}

/// Types that are compressed; by default those of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompressTypes(pub Option<Vec<String>>);

impl CompressTypes {
    /// True if a body of this media type, given without parameters, is compressed.
    pub fn include(&self, essence: &str) -> bool {
        let essence = essence.to_ascii_lowercase();
        let Some(types) = &self.0 else {
            return is_text(&essence);
        };
        types.iter().any(|listed| match listed.strip_suffix('*') {
            Some(family) => essence.starts_with(family),
            None => *listed == essence,
        })
    }
}

/// An event stream is text, but stays open for long and says little at a time.
fn is_text(essence: &str) -> bool {
    let is_family = essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || essence.ends_with("+text");
    is_family && essence != "text/event-stream"
        || matches!(
            essence,
            "application/json"
                | "application/x-ndjson"
                | "application/javascript"
                | "application/x-javascript"
                | "application/xml"
                | "application/wasm"
                | "application/graphql"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compressed_and_what_is_listed() {
        let listed = |types: &[&str]| {
            let types = types.iter().map(|text| (*text).to_owned());
            CompressTypes(Some(types.collect()))
        };
        for (types, essence, expected) in [
            (CompressTypes(None), "text/html", true),
            (CompressTypes(None), "Text/HTML", true),
            (CompressTypes(None), "application/problem+json", true),
            (CompressTypes(None), "image/svg+xml", true),
            (CompressTypes(None), "text/event-stream", false),
            (CompressTypes(None), "image/png", false),
            (CompressTypes(None), "", false),
            (listed(&["text/event-stream"]), "text/event-stream", true),
            (listed(&["text/event-stream"]), "text/html", false),
            (listed(&["font/*", "a/b"]), "font/ttf", true),
            (listed(&["*"]), "image/png", true),
        ] {
            assert_eq!(types.include(essence), expected, "{essence} in {types:?}");
        }
    }
}
