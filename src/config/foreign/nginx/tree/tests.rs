//! Directives with their places, faults and included files.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    let files: BTreeMap<PathBuf, &str> = files
        .iter()
        .map(|(name, text)| (Path::new("/etc/nginx").join(name), *text))
        .collect();
    let first = files
        .keys()
        .find(|path| path.ends_with("nginx.conf"))
        .cloned();
    let first = first.unwrap_or_else(|| files.keys().next().unwrap().clone());
    let read_file = |path: &Path| {
        files
            .get(path)
            .map(|text| text.as_bytes().to_vec())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let list = |dir: &Path| {
        let names = files.keys().filter(|path| path.parent() == Some(dir));
        names.map(|path| path.file_name().unwrap().into()).collect()
    };
    let disk = Disk {
        read: &read_file,
        list: &list,
    };
    read("nginx.conf", &first, &disk)
}

fn outline(tree: &Tree) -> Vec<String> {
    let items = tree.items.iter();
    items
        .map(|item| {
            format!(
                "{}:{} {:?} {}",
                item.source, item.line, item.parent, item.text
            )
        })
        .collect()
}

#[test]
fn blocks_and_lines_are_found() {
    let tree = tree(&[(
        "nginx.conf",
        "http {\n  server { listen 80;\n\n    root\n /x; }\n}\n",
    )]);
    assert_eq!(tree.fault, None);
    let expected = [
        "nginx.conf:1 None http",
        "nginx.conf:2 Some(0) server",
        "nginx.conf:2 Some(1) listen 80",
        "nginx.conf:4 Some(1) root /x",
    ];
    assert_eq!(outline(&tree), expected);
}

#[test]
fn included_files_take_the_place_of_their_line() {
    let tree = tree(&[
        (
            "nginx.conf",
            "http { include mime.types; include conf.d/*.conf; include none/*; }",
        ),
        ("conf.d/b.conf", "server {}"),
        ("conf.d/a.conf", "charset utf-8;"),
        ("conf.d/.hidden.conf", "x;"),
    ]);
    assert_eq!(tree.fault, None);
    let expected = [
        "nginx.conf:1 None http",
        "nginx.conf:1 Some(0) include mime.types",
        "nginx.conf:1 Some(0) include conf.d/*.conf",
        "conf.d/a.conf:1 Some(0) charset utf-8",
        "conf.d/b.conf:1 Some(0) server",
        "nginx.conf:1 Some(0) include none/*",
    ];
    assert_eq!(outline(&tree), expected);
    assert_eq!(tree.items[5].include, Some(Include::Read(0)));
}

#[test]
fn a_site_finds_the_files_beside_the_main_file() {
    let tree = tree(&[
        (
            "conf.d/site.conf",
            "include snippets/x.conf; include gone.conf;",
        ),
        ("snippets/x.conf", "gzip on;"),
    ]);
    assert_eq!(outline(&tree)[1], "snippets/x.conf:1 None gzip on");
    assert_eq!(tree.items[2].include, Some(Include::Missing));
}

#[test]
fn faults_have_their_file_and_line() {
    let check = |text: &str, line: usize, problem: &str| {
        let fault = tree(&[("nginx.conf", text)]).fault.unwrap();
        assert_eq!(
            (fault.line, fault.problem.contains(problem)),
            (line, true),
            "{text}: {fault:?}"
        );
    };
    check("server {\n listen 80\n}", 3, "may be missing");
    check("server {\n listen 80;\n", 2, "ends where \"}\"");
    check("a;\n}\n", 2, "unexpected \"}\"");
    check("a;\nb", 2, "ends where \";\"");
    check("a;\n;", 2, "unexpected \";\"");
    check("include nginx.conf;", 0, "includes itself");
    let deep = "a {".repeat(40);
    check(&deep, 1, "too deeply");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(\\PC|[{};\n]|include |location ){0,60}") {
        let _ = tree(&[("nginx.conf", &text)]);
    }
}
