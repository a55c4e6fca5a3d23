//! Tests of the settings for files: which locations there are, and what holds in each.

use proptest::prelude::*;

use super::tests::{APP, HELLO, Setup};
use super::*;
use crate::config::*;

#[test]
fn static_locations() {
    let setup = Setup::new(&[
        HELLO,
        ("static/a", ""),
        ("js/a", ""),
        ("images", "a file"),
        ("other/css/a", ""),
    ]);
    let locations = |flags: &[&str]| {
        let config = setup.config(&[&APP, flags].concat());
        let shown: Vec<String> = config
            .static_locations
            .iter()
            .map(|location| {
                setup.shorten(&format!("{}={}", location.prefix, location.dir.display()))
            })
            .collect();
        shown.join(" ")
    };
    assert_eq!(locations(&[]), "/static=static /js=js");
    assert_eq!(locations(&["--static", "/static=js"]), "/static=js /js=js");
    assert_eq!(locations(&["--root", "other"]), "/css=other/css");
    assert_eq!(
        locations(&["--static", "/=js", "--root", "other"]),
        "/=js /css=other/css"
    );
    let check = |location: &str, expected: &str| {
        let error = setup.error(&["--app", "hello.wsgi", "--static", location]);
        assert!(error.contains(expected), "{location}: {error}");
    };
    check("static", "no `=`");
    check("static=js", "does not start with `/`");
    check("/a=gone", "there is no directory gone");
    check("/a=", "no directory");
    for prefix in ["/../a", "/a//b", "/a?", "/a%20b", "/./a"] {
        check(&format!("{prefix}=js"), "no plain path");
    }
    assert!(
        setup
            .error(&[
                "--app",
                "hello.wsgi",
                "--static",
                "/a=js",
                "--static",
                "/a/=js"
            ])
            .contains("twice")
    );
}

#[test]
fn a_location_says_what_answers_for_missing_files_and_how_long_others_last() {
    let setup = Setup::new(&[HELLO, ("static/a", ""), ("js/a", ""), ("spa/a", "")]);
    let locations = |flags: &[&str]| {
        let config = setup.config(&[&APP, &["--static", "/=spa"], flags].concat());
        let shown: Vec<String> = config
            .static_locations
            .iter()
            .map(|location| {
                let age = location.max_age.map(|age| age.as_secs());
                format!("{}={:?},{age:?}", location.prefix, location.missing)
            })
            .collect();
        shown.join(" ")
    };
    assert_eq!(
        locations(&[]),
        "/=Refuse,None /static=Refuse,None /js=Refuse,None"
    );
    assert_eq!(
        locations(&[
            "--static-missing",
            "app",
            "--static-missing",
            "/=/index.html",
            "--static-max-age",
            "/js/=1h",
        ]),
        "/=Page(\"index.html\"),None /static=App,None /js=App,Some(3600)"
    );
    assert_eq!(
        locations(&["--dev", "yes", "--static-max-age", "/static=5"]),
        "/=Refuse,Some(0) /static=Refuse,Some(5) /js=Refuse,Some(0)"
    );
    let check = |name: &str, value: &str, expected: &str| {
        let error = setup.error(&[&APP[..], &[name, value]].concat());
        assert!(error.contains(expected), "{value}: {error}");
    };
    check(
        "--static-missing",
        "/media=app",
        "no static location /media",
    );
    check("--static-missing", "../secret", "neither `404` nor `app`");
    check("--static-missing", "", "neither `404` nor `app`");
    check("--static-max-age", "/js=soon", "not a duration");
    check("--static-max-age", "/js", "not a duration");
}

const BASE: [&str; 4] = ["--static", "/media=media", "--internal", "/inside=media"];

/// A project with a static location of each kind: of a flag, of the settings file, found.
fn each_kind() -> Setup {
    let toml = r#"
        [[location]]
        prefix = "/opted"
        static = "media"
        immutable = "auto"
        precompressed = true
        types = { TS = "text/x-own", ".usdz" = "model/x-own" }
    "#;
    Setup::new(&[
        HELLO,
        ("static/a", ""),
        ("media/a", ""),
        ("pyserve.toml", toml),
    ])
}

#[test]
fn only_the_directories_of_a_build_are_trusted_without_a_setting() {
    let setup = each_kind();
    let shown = |flags: &[&str]| {
        let config = setup.config(&[&APP[..], &BASE, flags].concat());
        let mut all: Vec<String> = config
            .static_locations
            .iter()
            .chain(&config.internal_locations)
            .map(|at| format!("{}={:?},{}", at.prefix, at.immutable, at.precompressed))
            .collect();
        all.sort();
        let every = &config.every_location;
        format!(
            "{} {:?} {:?}",
            all.join(" "),
            every.immutable,
            every.precompressed
        )
    };
    assert_eq!(
        shown(&[]),
        "/inside=No,false /media=No,false /opted=Auto,true /static=Auto,true None None"
    );
    assert_eq!(
        shown(&[
            "--static-immutable",
            "/media=auto",
            "--static-immutable",
            "/static=no",
            "--static-precompressed",
            "/inside=yes",
            "--static-precompressed",
            "/static=no",
        ]),
        "/inside=No,true /media=Auto,false /opted=Auto,true /static=No,false None None"
    );
    assert_eq!(
        shown(&[
            "--static-immutable",
            "auto",
            "--static-precompressed",
            "yes"
        ]),
        "/inside=No,true /media=Auto,true /opted=Auto,true /static=Auto,true \
         Some(Auto) Some(true)"
    );
    for (name, value, expected) in [
        ("--static-immutable", "always", "auto, manifest, no"),
        (
            "--static-precompressed",
            "/none=yes",
            "no static location /none",
        ),
    ] {
        let error = setup.error(&[&APP[..], &[name, value]].concat());
        assert!(error.contains(expected), "{value}: {error}");
    }
}

#[test]
fn types_of_a_location_take_precedence_over_those_of_all() {
    let setup = each_kind();
    let types = |flags: &[&str]| {
        let config = setup.config(&[&APP[..], &BASE, flags].concat());
        config
            .static_locations
            .iter()
            .find(|at| at.prefix == "/opted")
            .unwrap()
            .types
            .clone()
    };
    let of = types(&[
        "--types",
        "ts=text/plain",
        "--types",
        ".Foo = text/plain;charset=x",
    ]);
    let of: Vec<_> = of
        .iter()
        .map(|(end, kind)| format!("{end}={kind}"))
        .collect();
    assert_eq!(
        of.join(" "),
        "foo=text/plain;charset=x ts=text/x-own usdz=model/x-own"
    );
    for wrong in [
        "ts",
        "=text/plain",
        "ts=",
        "ts=text",
        "ts=text/",
        "a/b=text/plain",
        "ts=te xt/a",
        "ts=a/b;\u{7f}c",
    ] {
        let error = setup.error(&[&APP[..], &["--types", wrong]].concat());
        assert!(error.contains("ts=video/mp2t"), "{wrong}: {error}");
    }
}

#[test]
fn what_holds_for_all_static_files() {
    let setup = Setup::new(&[HELLO, ("static/a", ""), ("shared/a", "")]);
    let of = |flags: &[&str]| setup.config(&[&APP, flags].concat()).static_files;
    assert_eq!(of(&[]), StaticSettings::default());
    assert_eq!(of(&["--dev", "yes"]).check, Duration::ZERO);
    let set = of(&[
        "--static-compress",
        "gzip",
        "--static-cache",
        "1M",
        "--static-check",
        "5",
        "--static-links",
        "shared",
        "--static-hidden",
        "yes",
    ]);
    let expected = StaticSettings {
        brotli: false,
        gzip: true,
        cache: 1 << 20,
        check: Duration::from_secs(5),
        links: vec![setup.dir.path().join("shared")],
        hidden: true,
    };
    assert_eq!(set, expected);
    for no in ["0", "no", "off"] {
        assert_eq!(of(&["--static-cache", no]).cache, 0);
    }
    let codings = |given: &[&str]| {
        let flags: Vec<_> = given
            .iter()
            .flat_map(|value| ["--static-compress", value])
            .collect();
        let files = of(&flags);
        (files.brotli, files.gzip)
    };
    assert_eq!(codings(&["no"]), (false, false));
    assert_eq!(codings(&["br"]), (true, false));
    assert_eq!(codings(&["br, gzip"]), (true, true));
    assert_eq!(codings(&["br", "gzip"]), (true, true));
    let error = setup.error(&[&APP[..], &["--static-compress", "zstd"]].concat());
    assert!(error.contains("br, gzip, no"), "{error}");
    let error = setup.error(&[&APP[..], &["--static-listing", "xml"]].concat());
    assert!(error.contains("give yes, no or json"), "{error}");
    setup.config(&[&APP[..], &["--static-listing", "JSON"]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_static_location_is_read_without_a_panic(text in "\\PC{0,30}|[/=.a%]{0,20}") {
        let _ = static_files::static_location(&text, |dir| Ok(Path::new(dir).to_owned()));
    }
}
