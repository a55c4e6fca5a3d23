//! The media type of a file, by its name.
//!
//! Sources in order of precedence: the settings; names of RFC 8615 below `/.well-known/`; nginx's
//! `mime.types` and IANA's registry of media types; the `mime_guess` crate. The consequences of a
//! type (charset, compression) are decided here, too. The content of a file is never examined.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use http::HeaderValue;

use crate::config::FileTypes;

/// The type of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MediaType {
    /// The value of `Content-Type`.
    pub(super) value: HeaderValue,
    /// The type without parameters, in lower case.
    essence: Cow<'static, str>,
}

impl MediaType {
    /// The type of the file called `name` in the location of this prefix, which is empty for the
    /// whole site. `set` has the types of the settings.
    pub(super) fn of(prefix: &str, name: &str, set: &FileTypes) -> Self {
        if let Some(declared) = by_ending(name, |end| set.get(end)) {
            return Self::declared(declared);
        }
        if let Some(declared) = set.get(EVERY) {
            return Self::declared(declared);
        }
        match (known(prefix, name), set.get(ANY)) {
            (Some(essence), _) => Self::plain(essence.into()),
            (None, None) => Self::plain(UNKNOWN.into()),
            (None, Some(declared)) => Self::declared(declared),
        }
    }

    /// A type of the settings.
    fn declared(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default();
        let essence = essence.trim_end().to_ascii_lowercase();
        match HeaderValue::from_str(text) {
            Ok(value) if text.contains(';') => Self {
                value,
                essence: essence.into(),
            },
            Ok(_) => Self::plain(essence.into()),
            Err(_) => Self::plain(UNKNOWN.into()),
        }
    }

    /// A type with the charset that text nearly always has.
    fn plain(essence: Cow<'static, str>) -> Self {
        let value = match is_text(&essence) {
            true => HeaderValue::try_from(format!("{essence}; charset=utf-8")),
            false => HeaderValue::from_str(&essence),
        };
        Self {
            value: value.unwrap_or(HeaderValue::from_static(UNKNOWN)),
            essence,
        }
    }

    /// True for a page, which names the files of its release.
    pub(super) fn is_html(&self) -> bool {
        matches!(&*self.essence, "text/html" | "application/xhtml+xml")
    }

    /// True for a playlist: a list of the parts of a stream, rewritten while the stream continues.
    pub(super) fn is_playlist(&self) -> bool {
        matches!(
            &*self.essence,
            "application/vnd.apple.mpegurl" | "application/dash+xml"
        )
    }

    /// True if compressing pays: text, and the binary types that are not compressed themselves.
    pub(super) fn is_compressible(&self) -> bool {
        is_text(&self.essence)
            || matches!(
                &*self.essence,
                "application/json5"
                    | "application/pgp-keys"
                    | "application/postscript"
                    | "application/rtf"
                    | "application/vnd.apple.mpegurl"
                    | "application/vnd.ms-fontobject"
                    | "application/wasm"
                    | "application/x-font-ttf"
                    | "application/x-perl"
                    | "application/x-sh"
                    | "application/x-subrip"
                    | "application/x-tcl"
                    | "font/collection"
                    | "font/otf"
                    | "font/sfnt"
                    | "font/ttf"
                    | "image/bmp"
                    | "image/vnd.microsoft.icon"
                    | "image/x-icon"
                    | "image/x-ms-bmp"
                    | "model/gltf-binary"
                    | "model/mtl"
                    | "model/obj"
                    | "model/stl"
            )
    }

    /// True if the type is compressed itself, so that a file has no precompressed neighbours.
    pub(super) fn is_packed(&self) -> bool {
        let kind = self.essence.split('/').next().unwrap_or_default();
        match kind {
            "image" => !self.is_compressible(),
            "audio" | "video" => true,
            _ => matches!(
                &*self.essence,
                "application/gzip"
                    | "application/zip"
                    | "application/zstd"
                    | "font/woff"
                    | "font/woff2"
            ),
        }
    }
}

/// True for text under any name, in UTF-8 nearly always.
fn is_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence,
            "application/geo+json-seq"
                | "application/graphql"
                | "application/javascript"
                | "application/json"
                | "application/jsonl"
                | "application/sql"
                | "application/toml"
                | "application/x-ndjson"
                | "application/xml"
                | "application/xml-dtd"
                | "application/yaml"
        )
}

/// The type without a setting; `None` for names of which nothing is known.
fn known(prefix: &str, name: &str) -> Option<&'static str> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let well_known = well_known(prefix, name).and_then(|below| WELL_KNOWN.get(&*below).copied());
    // Apple requests it at the root of the site too.
    if file == APPLE_APP_SITE_ASSOCIATION {
        return Some("application/json");
    }
    if well_known.is_some() {
        return well_known;
    }
    let (_, extension) = file.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    let own = TYPES.get(&*extension).copied();
    own.or_else(|| mime_guess::from_ext(&extension).first_raw())
}

/// The part of a path after `/.well-known/`, if it has one.
fn well_known<'a>(prefix: &str, name: &'a str) -> Option<Cow<'a, str>> {
    const DIRECTORY: &str = "/.well-known";
    if let Some((_, below)) = prefix.split_once(DIRECTORY) {
        let below = below.trim_matches('/');
        return Some(match below {
            "" => name.into(),
            below => format!("{below}/{name}").into(),
        });
    }
    let (before, below) = name.split_once(".well-known/")?;
    (before.is_empty() || before.ends_with('/')).then(|| below.into())
}

/// The value set for the whole name, else for its longest ending after a dot.
fn by_ending<'a, T>(name: &str, find: impl Fn(&str) -> Option<&'a T>) -> Option<&'a T>
where
    T: ?Sized,
{
    let file = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    find(&file).or_else(|| {
        let dots = file.match_indices('.');
        dots.filter_map(|(at, _)| find(&file[at + 1..])).next()
    })
}

const UNKNOWN: &str = "application/octet-stream";
/// In the settings: names of which nothing is known.
const ANY: &str = "*";
/// In the settings: all names without a type in the settings.
const EVERY: &str = "**";

const APPLE_APP_SITE_ASSOCIATION: &str = "apple-app-site-association";

/// Names below `/.well-known/` without a known extension, with the types that their specifications
/// require.
static WELL_KNOWN: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    HashMap::from([
        ("apple-app-site-association", "application/json"),
        // Apple, "Account-driven enrollment".
        ("com.apple.remotemanagement", "application/json"),
        // AT Protocol, "Handle Resolution".
        ("atproto-did", "text/plain"),
        // RFC 6415.
        ("host-meta", "application/xrd+xml"),
        // RFC 7033; NodeInfo 2.1; Matrix client-server and server-server API.
        ("webfinger", "application/jrd+json"),
        ("nodeinfo", "application/json"),
        ("matrix/client", "application/json"),
        ("matrix/server", "application/json"),
        ("matrix/support", "application/json"),
        // RFC 8414, RFC 9728, RFC 7517, OpenID Connect Discovery 1.0, UMA 2.0, SMART App Launch.
        ("oauth-authorization-server", "application/json"),
        ("oauth-protected-resource", "application/json"),
        ("openid-configuration", "application/json"),
        ("openid-credential-issuer", "application/json"),
        ("openid-federation", "application/entity-statement+jwt"),
        ("jwks", "application/jwk-set+json"),
        ("smart-configuration", "application/json"),
        ("uma2-configuration", "application/json"),
        // RFC 9116 with and without its extension; "Private prefetch proxy".
        ("security.txt", "text/plain"),
        ("traffic-advice", "application/trafficadvice+json"),
        // RFC 8801; W3C Web of Things Discovery, Tracking Preference Expression.
        ("pvd", "application/pvd+json"),
        ("wot", "application/td+json"),
        ("dnt", "application/tracking-status+json"),
        // FedCM, Web Authentication, "Passkey endpoints", Discord's verification.
        ("web-identity", "application/json"),
        ("webauthn", "application/json"),
        ("passkey-endpoints", "application/json"),
        ("discord", "text/plain"),
    ])
});

/// By extension: first a line of nginx's `mime.types` (1.29), then of IANA's registry. The
/// exceptions at the end have a reason each.
static TYPES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let mut types = HashMap::new();
    for (essence, extensions) in NGINX.iter().chain(IANA).chain(EXCEPTIONS) {
        for extension in extensions.split(' ') {
            types.insert(extension, *essence);
        }
    }
    types
});

/// nginx's `conf/mime.types`.
const NGINX: &[(&str, &str)] = &[
    ("text/html", "html htm shtml"),
    ("text/css", "css"),
    ("text/xml", "xml"),
    ("image/gif", "gif"),
    ("image/jpeg", "jpeg jpg"),
    ("application/atom+xml", "atom"),
    ("application/rss+xml", "rss"),
    ("text/mathml", "mml"),
    ("text/plain", "txt"),
    ("text/vnd.sun.j2me.app-descriptor", "jad"),
    ("text/vnd.wap.wml", "wml"),
    ("text/x-component", "htc"),
    ("image/avif", "avif"),
    ("image/png", "png"),
    ("image/svg+xml", "svg svgz"),
    ("image/tiff", "tif tiff"),
    ("image/vnd.wap.wbmp", "wbmp"),
    ("image/webp", "webp"),
    ("image/x-icon", "ico"),
    ("image/x-jng", "jng"),
    ("image/x-ms-bmp", "bmp"),
    ("font/woff", "woff"),
    ("font/woff2", "woff2"),
    ("application/java-archive", "jar war ear"),
    ("application/json", "json"),
    ("application/mac-binhex40", "hqx"),
    ("application/msword", "doc"),
    ("application/pdf", "pdf"),
    ("application/postscript", "ps eps ai"),
    ("application/rtf", "rtf"),
    ("application/vnd.apple.mpegurl", "m3u8"),
    ("application/vnd.google-earth.kml+xml", "kml"),
    ("application/vnd.google-earth.kmz", "kmz"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-fontobject", "eot"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.oasis.opendocument.graphics", "odg"),
    ("application/vnd.oasis.opendocument.presentation", "odp"),
    ("application/vnd.oasis.opendocument.spreadsheet", "ods"),
    ("application/vnd.oasis.opendocument.text", "odt"),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "pptx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    ("application/vnd.wap.wmlc", "wmlc"),
    ("application/wasm", "wasm"),
    ("application/x-7z-compressed", "7z"),
    ("application/x-cocoa", "cco"),
    ("application/x-java-archive-diff", "jardiff"),
    ("application/x-java-jnlp-file", "jnlp"),
    ("application/x-makeself", "run"),
    ("application/x-perl", "pl pm"),
    ("application/x-pilot", "prc pdb"),
    ("application/x-rar-compressed", "rar"),
    ("application/x-redhat-package-manager", "rpm"),
    ("application/x-sea", "sea"),
    ("application/x-shockwave-flash", "swf"),
    ("application/x-stuffit", "sit"),
    ("application/x-tcl", "tcl tk"),
    ("application/x-x509-ca-cert", "der pem crt"),
    ("application/x-xpinstall", "xpi"),
    ("application/xhtml+xml", "xhtml"),
    ("application/xspf+xml", "xspf"),
    ("application/zip", "zip"),
    (
        "application/octet-stream",
        "bin exe dll deb dmg iso img msi msp msm",
    ),
    ("audio/midi", "mid midi kar"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/x-m4a", "m4a"),
    ("audio/x-realaudio", "ra"),
    ("video/3gpp", "3gpp 3gp"),
    ("video/mp2t", "ts"),
    ("video/mp4", "mp4"),
    ("video/mpeg", "mpeg mpg"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
    ("video/x-flv", "flv"),
    ("video/x-m4v", "m4v"),
    ("video/x-mng", "mng"),
    ("video/x-ms-asf", "asx asf"),
    ("video/x-ms-wmv", "wmv"),
    ("video/x-msvideo", "avi"),
];

/// IANA's "Media Types", where `mime_guess` differs or has no entry.
const IANA: &[(&str, &str)] = &[
    ("application/dash+xml", "mpd"),
    ("application/geo+json", "geojson"),
    ("application/gzip", "gz tgz"),
    ("application/importmap+json", "importmap"),
    ("application/jsonl", "jsonl"),
    ("application/ld+json", "jsonld"),
    ("application/manifest+json", "webmanifest"),
    ("application/sql", "sql"),
    ("application/toml", "toml"),
    ("application/vnd.android.package-archive", "apk"),
    ("application/vnd.apache.parquet", "parquet"),
    ("application/vnd.apple.pkpass", "pkpass"),
    ("application/vnd.debian.binary-package", "udeb"),
    ("application/vnd.mapbox-vector-tile", "mvt"),
    ("application/vnd.pmtiles", "pmtiles"),
    ("application/vnd.sqlite3", "sqlite sqlite3"),
    ("application/xslt+xml", "xsl xslt"),
    ("application/yaml", "yaml yml"),
    ("application/zstd", "zst"),
    ("audio/aac", "aac adts"),
    ("audio/flac", "flac"),
    ("audio/matroska", "mka"),
    ("audio/mp4", "m4b mp4a"),
    ("audio/ogg", "oga opus spx"),
    ("audio/webm", "weba"),
    ("font/collection", "ttc"),
    ("font/otf", "otf"),
    ("font/ttf", "ttf"),
    ("image/apng", "apng"),
    ("image/avif", "avifs"),
    ("image/heic", "heic"),
    ("image/heif", "heif"),
    ("image/jxl", "jxl"),
    ("image/ktx2", "ktx2"),
    ("image/vnd.microsoft.icon", "cur"),
    ("model/3mf", "3mf"),
    ("model/gltf+json", "gltf"),
    ("model/gltf-binary", "glb"),
    ("model/mtl", "mtl"),
    ("model/obj", "obj"),
    ("model/step", "step stp"),
    ("model/stl", "stl"),
    ("model/vnd.usda", "usda"),
    ("model/vnd.usdz+zip", "usdz"),
    ("text/calendar", "ics ifb"),
    ("text/csv", "csv"),
    ("text/javascript", "js mjs"),
    ("text/markdown", "md markdown"),
    ("text/vcard", "vcf vcard"),
    ("text/vtt", "vtt"),
    ("text/wgsl", "wgsl"),
    ("video/iso.segment", "m4s"),
    ("video/matroska", "mkv"),
    ("video/mp2t", "m2t m2ts mts"),
    ("video/mp4", "mp4v"),
    ("video/ogg", "ogv"),
];

/// Not registered, or registered for something that a website does not have.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Node's name for scripts; RFC 9239 §6 has one type for all of them.
    ("text/javascript", "cjs"),
    // Source maps and other JSON of its own name.
    ("application/json", "map har topojson avsc jsonc"),
    ("application/json5", "json5"),
    ("application/x-ndjson", "ndjson"),
    ("application/x-ipynb+json", "ipynb"),
    // Public keys of SSH, age and minisign, rather than Microsoft's Publisher.
    ("text/plain", "pub asc log conf cfg ini properties"),
    ("application/pgp-signature", "sig"),
    ("text/x-diff", "diff patch"),
    // An Android App Bundle, rather than Authorware; a library, rather than MPEG.
    ("application/octet-stream", "aab mod"),
    ("application/protobuf", "pbf"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn type_of(name: &str, set: &[(&str, &str)]) -> MediaType {
        let set: BTreeMap<_, _> = set
            .iter()
            .map(|(end, kind)| ((*end).to_owned(), (*kind).to_owned()))
            .collect();
        MediaType::of("/static", name, &Arc::new(set))
    }

    #[test]
    fn a_type_is_told_from_the_name_and_text_is_utf_8() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("A.CSS", "text/css; charset=utf-8"),
            ("a.min.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.js.map", "application/json; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.webmanifest", "application/manifest+json; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.wasm", "application/wasm"),
            ("a.tar.gz", "application/gzip"),
            ("a.unheard-of", "application/octet-stream"),
            ("README", "application/octet-stream"),
            ("dir.css/README", "application/octet-stream"),
            ("a.ts", "video/mp2t"),
            ("a.m4s", "video/iso.segment"),
            ("a.m3u8", "application/vnd.apple.mpegurl"),
            ("a.rpm", "application/x-redhat-package-manager"),
            ("a.otf", "font/otf"),
            ("a.usdz", "model/vnd.usdz+zip"),
            ("a.obj", "model/obj"),
            ("id_ed25519.pub", "text/plain; charset=utf-8"),
            ("a.yaml", "application/yaml; charset=utf-8"),
        ] {
            assert_eq!(type_of(name, &[]).value, expected, "{name}");
        }
    }

    #[test]
    fn names_below_well_known_have_the_types_of_their_specifications() {
        let of = |prefix: &str, name: &str| {
            let kind = MediaType::of(prefix, name, &FileTypes::default());
            kind.essence.into_owned()
        };
        for (prefix, name, expected) in [
            (
                "",
                ".well-known/apple-app-site-association",
                "application/json",
            ),
            (
                "/.well-known",
                "apple-app-site-association",
                "application/json",
            ),
            ("/.well-known/matrix", "server", "application/json"),
            ("", "apple-app-site-association", "application/json"),
            ("", ".well-known/openid-configuration", "application/json"),
            ("", "openid-configuration", UNKNOWN),
            ("", "x.well-known/openid-configuration", UNKNOWN),
            ("", ".well-known/acme-challenge/token", UNKNOWN),
            ("", ".well-known/assetlinks.json", "application/json"),
        ] {
            assert_eq!(of(prefix, name), expected, "{prefix} {name}");
        }
    }

    #[test]
    fn the_settings_come_first_and_the_longest_ending_wins() {
        let set = [
            ("ts", "text/x.typescript"),
            ("tar.gz", "application/x.archive"),
            ("license", "text/plain; charset=iso-8859-1"),
            ("bin2", "application/x.own"),
        ];
        for (name, expected) in [
            ("a.ts", "text/x.typescript; charset=utf-8"),
            ("A.TS", "text/x.typescript; charset=utf-8"),
            ("a.tar.gz", "application/x.archive"),
            ("a.gz", "application/gzip"),
            ("sub/LICENSE", "text/plain; charset=iso-8859-1"),
            ("a.bin2", "application/x.own"),
            ("ts", "text/x.typescript; charset=utf-8"),
        ] {
            assert_eq!(type_of(name, &set).value, expected, "{name}");
        }
        assert!(type_of("a.ts", &set).is_compressible());
        assert!(!type_of("a.ts", &[]).is_compressible());
    }

    #[test]
    fn a_star_is_the_type_of_names_of_which_nothing_is_known() {
        let set = [("*", "text/plain"), ("own", "text/x.own")];
        for (name, expected) in [
            ("README", "text/plain; charset=utf-8"),
            ("a.unheard-of", "text/plain; charset=utf-8"),
            ("a.own", "text/x.own; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.bin", "application/octet-stream"),
        ] {
            assert_eq!(type_of(name, &set).value, expected, "{name}");
        }
    }

    #[test]
    fn two_stars_take_the_place_of_all_types_that_are_built_in() {
        let set = [("**", "application/octet-stream"), ("own", "text/x.own")];
        for (name, expected) in [
            ("p.html", "application/octet-stream"),
            ("a.svg", "application/octet-stream"),
            ("README", "application/octet-stream"),
            ("apple-app-site-association", "application/octet-stream"),
            ("a.own", "text/x.own; charset=utf-8"),
        ] {
            assert_eq!(type_of(name, &set).value, expected, "{name}");
        }
    }

    #[test]
    fn what_is_worth_compressing_follows_from_the_type() {
        for name in [
            "a.otf",
            "a.ttf",
            "a.ttc",
            "a.wasm",
            "a.svg",
            "a.json",
            "a.geojson",
            "a.jsonl",
            "a.map",
            "a.webmanifest",
            "a.m3u8",
            "a.mpd",
            "a.gltf",
            "a.glb",
            "a.obj",
            "a.ico",
            "a.bmp",
            "a.yaml",
            "a.vtt",
            "a.eot",
            "a.md",
        ] {
            assert!(type_of(name, &[]).is_compressible(), "{name}");
            assert!(!type_of(name, &[]).is_packed(), "{name}");
        }
        for name in [
            "a.woff", "a.woff2", "a.png", "a.jpg", "a.ts", "a.m4s", "a.mp4", "a.zip", "a.gz",
        ] {
            assert!(!type_of(name, &[]).is_compressible(), "{name}");
            assert!(type_of(name, &[]).is_packed(), "{name}");
        }
    }
}
