//! Files.

use super::{Default, Setting};

const HEADING: &str = "Static files";

/// Under the heading [`HEADING`].
pub(super) static STATIC_FILES: &[Setting] = &[
    Setting {
        name: "root",
        value_name: "DIR|none",
        heading: HEADING,
        help: "Directory whose `static`, `css`, `js` and `images` are served at /static, /css, /js and \
               /images, each if it exists; `none` for none of them",
        repeatable: false,
        default: Default::Computed("the chdir"),
    },
    Setting {
        name: "static",
        value_name: "PREFIX=DIR",
        heading: HEADING,
        help: "Serve the files of DIR below PREFIX, as in `/media=uploads`; replaces a location of the \
               same prefix; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "internal",
        value_name: "PREFIX=DIR",
        heading: HEADING,
        help: "Files below DIR that only the application can send, by the response header \
               `X-Accel-Redirect: PREFIX/name` or `X-Sendfile: DIR/name`; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "django_static",
        value_name: "yes|no",
        heading: HEADING,
        help: "Serve a Django project's STATIC_ROOT at its STATIC_URL; before `collectstatic`, and \
               with --dev, the files that its staticfiles finders find",
        repeatable: false,
        default: Default::Value("yes"),
    },
    Setting {
        name: "django_media",
        value_name: "yes|no",
        heading: HEADING,
        help: "Serve a Django project's MEDIA_ROOT at its MEDIA_URL, to every client",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "static_missing",
        value_name: "[PREFIX=]404|app|@NAME|FILE",
        heading: HEADING,
        help: "Handler below PREFIX (without: everywhere) for paths without a file: 404, the \
               application, the [[location]] of this NAME, or for navigations this FILE of the location, as in `/=index.html` for \
               a single-page application; repeatable",
        repeatable: true,
        default: Default::Computed("404"),
    },
    Setting {
        name: "static_index",
        value_name: "[PREFIX=]yes|no",
        heading: HEADING,
        help: "Answer for a directory below PREFIX (without: everywhere) with its index.html; with no it has \
               no file (uWSGI without `static-index`); repeatable",
        repeatable: true,
        default: Default::Computed("yes"),
    },
    Setting {
        name: "static_listing",
        value_name: "[PREFIX=]yes|no|json",
        heading: HEADING,
        help: "List the files of directories without an index, as HTML or JSON as clients ask, or always \
               as JSON; repeatable",
        repeatable: true,
        default: Default::Computed("no"),
    },
    Setting {
        name: "static_max_age",
        value_name: "[PREFIX=]TIME",
        heading: HEADING,
        help: "Time that clients may reuse a file without revalidation; 0 for revalidation at each \
               use; repeatable",
        repeatable: true,
        default: Default::Computed("60, and 0 for HTML; 0 with --dev"),
    },
    Setting {
        name: "static_immutable",
        value_name: "[PREFIX=]auto|manifest|no",
        heading: HEADING,
        help: "Files below PREFIX (without: everywhere) that clients may cache for a year: those with \
               a content hash in their name that staticfiles.json lists, and with `auto` also those \
               that it does not list, as in `app.3f2a9c71.js`; never HTML, nor where a maximum age is set; repeatable",
        repeatable: true,
        default: Default::Computed(
            "auto for STATIC_ROOT, /static, /css, /js and /images of the root; no elsewhere, since \
             uploads may have such names",
        ),
    },
    Setting {
        name: "static_precompressed",
        value_name: "[PREFIX=]yes|no",
        heading: HEADING,
        help: "Send the .br, .zst or .gz file beside a file in its place, below PREFIX (without: \
               everywhere); not for directories of uploads; repeatable",
        repeatable: true,
        default: Default::Computed(
            "yes for STATIC_ROOT, /static, /css, /js and /images of the root; no elsewhere",
        ),
    },
    Setting {
        name: "types",
        value_name: "EXT=TYPE",
        heading: HEADING,
        help: "Media type of files whose name ends in .EXT, or is EXT, as in `ts=text/plain`; `*` for \
               names of which nothing is known, `**` for all others, known or not; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "types_file",
        value_name: "FILE",
        heading: HEADING,
        help: "File with media types in the form of /etc/mime.types; `types` takes precedence; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "static_compress",
        value_name: "br|gzip|no",
        heading: HEADING,
        help: "Codings for text without a .br, .zst or .gz file, compressed once in the background; \
               repeatable",
        repeatable: true,
        default: Default::Computed("br, gzip"),
    },
    Setting {
        name: "static_cache",
        value_name: "BYTES",
        heading: HEADING,
        help: "Memory for small files and compressed files; `no` for none",
        repeatable: false,
        default: Default::Value("32M"),
    },
    Setting {
        name: "static_check",
        value_name: "TIME",
        heading: HEADING,
        help: "Time between two checks of a file in memory for changes",
        repeatable: false,
        default: Default::Computed("1, and 0 with --dev"),
    },
    Setting {
        name: "static_links",
        value_name: "DIR",
        heading: HEADING,
        help: "Directory in which symbolic links of static locations may end, besides the \
               locations; repeatable",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "static_hidden",
        value_name: "yes|no",
        heading: HEADING,
        help: "Also serve dotfiles, Python's files, databases and editors' backups",
        repeatable: false,
        default: Default::Value("no"),
    },
];
