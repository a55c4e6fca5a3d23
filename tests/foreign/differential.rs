//! The reader beside the real uWSGI: both read the same file and have to end with the same options.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyserve::internals::Environment;
use pyserve::internals::foreign::uwsgi::{Form, Sources, options_of};
use pyserve::internals::foreign::{Files, Surroundings};

use crate::support::behind::program;
use crate::support::temp_dir;

/// The environment of both.
const VARIABLES: &[(&str, &str)] = &[
    ("HOME", "/home/web"),
    ("NAME", "value"),
    ("EMPTY", ""),
    ("NESTED", "$(NAME)"),
    ("UWSGI_THREADS", "3"),
    ("UWSGI_BUFFER_SIZE", "8192"),
    ("UWSGI_ORIGINAL_PROC_NAME", "uwsgi"),
];

/// Files of the ini form.
const INI: &[&str] = &[
    "[uwsgi]\na = 1\nb = %(a)\na = 2\nc = %(a)\n",
    "[uwsgi]\nmodule=x\n  indented = yes  \n\ttabbed\t=\tv\t\n",
    "[uwsgi]\nbare\nbare-space   \n= value\n==\nk==v=w\n",
    "[uwsgi]\nprocesses = 4 ; four\nthreads = 2 # two\n; x = 1\n# y = 2\n  ; z = 3\n",
    "[uwsgi]\nenv = \"A=b c\"\nenv = C='d'\nsocket = 127.0.0.1:0/\n",
    "[uwsgi]\nx = 4\ny = %(x - 1)\nz = %(x + 1)\nw = %(x * 2 + 1)\nv = %(x / 3)\nu = %(x / 0)\n",
    "[uwsgi]\na = 2\nb = 8\nc = %(a b)\nd = %(a b + 2)\ne = %(a ++ )\nf = %(b --)\ng = %(missing)\nh = %(missing + 1)\n",
    "[uwsgi]\na = $(HOME)/x\nb = $(MISSING)\nc = $(EMPTY)\nd = $(NAME)$(NAME)\ne = $(EMPTY)$(NAME)\nf = $(NESTED)\ng = $($(NAME))\n",
    "[uwsgi]\na = @(value.txt)\nb = x@(value.txt)y\nc = @(empty.txt)\n",
    "[uwsgi]\na = %n\nb = %s\nc = %e\nd = %d\ne = %p\nf = %c\ng = %0\nh = %1\ni = %x\nj = %o\nk = %v\n",
    "[uwsgi]\na = %%\nb = 100%\nc = %q\nd = %% %\ne = %(\nf = %()\ng = %( a)\n",
    "[uwsgi]\na = %h\nb = %u\nc = %U\nd = %g\ne = %k\nf = %G\n",
    "[uwsgi]\na = %i\nb = %I\nc = %j\nd = %J\nini = included.ini\ne = %i %j\n",
    "[uwsgi]\nini = :base\na = %x\n[base]\nb = %x\nc = %n\n[other]\nd = 1\n",
    "[uwsgi]\na = 1\n[other]\nb = 2\n[uwsgi]\nc = 3\n",
    "before = 1\n[uwsgi]\na = 1\n",
    "[uwsgi]\nini = included.ini\na = %n\nA = %N\n",
    "[uwsgi]\nini = included.ini:second\ninclude = included.ini\na = %n\nd = %D\n",
    "[uwsgi]\nif-env = NAME\na = %(_)\nendif =\nif-env = MISSING\nb = 1\nendif =\nif-env = NAME=value\nc = 1\nend-if =\nif-env = NAME=other\nd = 1\nendif =\n",
    "[uwsgi]\nif-not-env = NAME\na = %(_)\nendif =\nif-not-env = MISSING\nb = %(_)\nendif =\nif-not-env = NAME=other\nc = %(_)\nend =\nd = 4\n",
    "[uwsgi]\nif-exists = value.txt\na = %(_)\nendif =\nif-file = .\nb = 1\nendif =\nif-dir = .\nc = %(_)\nendif =\nif-not-dir = value.txt\nd = 1\nendif =\nif-not-file = gone\ne = 1\nendif=\n",
    "[uwsgi]\nfor = a b  c\nx = %(_).%(_)\ny\nendfor =\nfor-times = 3\nz = %(_)\nend-for =\nfor-readline = lines.txt\nw = %(_)\nendfor =\n",
    "[uwsgi]\nfoo = bar\nif-opt = foo\na = %(_)\nendif =\nif-opt = foo=bar\nb = 1\nendif =\nif-opt = foo=x\nc = 1\nendif =\nif-not-opt = gone\nd = 1\nendif =\n",
    "[uwsgi]\nif-reload =\na = 1\nendif =\nif-not-reload =\nb = 1\nendif =\n",
    "[uwsgi]\nset-placeholder = p=1\nset-ph = q=%(p)\nset = r=%(p)\na = %(q)\n",
    "[uwsgi]\nstatic-map = /a=/b\nstatic-map = /c=%(d)\nd = 1\nx = %(a\n",
    "[uwsgi]\na = 1\r\nb = 2\r\n",
    "[uwsgi]\na = 1",
    "[uwsgi]\na = 1\n\n\n   \n[uwsgi] ; comment\nb = 2\n",
    "[uwsgi]\na = x(y)z\nb = %(a (b))\nc = $(NAME\nd = $NAME\ne = $ (NAME)\nf = (%(a))\n",
    "[uwsgi]\nif-env = NAME\nini = :base\nendif =\n[base]\nc = 1\nendif =\nd = 1\n",
    "[uwsgi]\nA = 1\na = 2\nb = %(A)%(a)\nUWSGI = %(UWSGI)\n",
];

/// Of the yaml form, as far as uWSGI's two readers agree.
const YAML: &[&str] = &[
    "uwsgi:\n  a: 1\n  b: %(a)\n  http: 127.0.0.1:0\n",
    "# comment\nother:\n  x: 1\nuwsgi:\n  a: 1 # one\n  b: x:y\n",
    "uwsgi:\n    a:   spaced out\n\n    # comment\n    b: $(NAME)\nother:\n    c: 1\n",
];

/// Of the xml form.
const XML: &[&str] = &[
    "<uwsgi><a>1</a><b/><c>%(a)</c></uwsgi>",
    "<?xml version=\"1.0\"?>\n<!-- x -->\n<uwsgi>\n  <a>x &amp; y</a>\n  <!-- y -->\n  <b>$(NAME)</b>\n</uwsgi>\n",
    "<root><uwsgi>\n<a>1</a>\n</uwsgi></root>",
    "<uwsgi>\n<app mountpoint=\"/shop\">\n<script>shop:app</script>\n</app>\n</uwsgi>",
];

fn other_files(dir: &Path) {
    for (name, text) in [
        ("value.txt", "seven\n"),
        ("empty.txt", ""),
        ("lines.txt", "one\ntwo\n"),
        (
            "included.ini",
            "[uwsgi]\ni = %n\nI = %N\n[second]\nj = %x\n",
        ),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// The options that the real one has.
fn real(uwsgi: &Path, dir: &Path, option: &str, file: &str) -> Vec<String> {
    let run = Command::new(uwsgi)
        .args([option, file])
        // It ends behind the listing, as there is no such clock.
        .args(["--show-config", "--clock", "none"])
        .current_dir(dir)
        .env_clear()
        .envs(VARIABLES.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    let (_, listing) = text
        .split_once("[uwsgi]\n")
        .unwrap_or_else(|| panic!("{text}"));
    let (listing, _) = listing.split_once(";end of configuration").unwrap();
    let first = format!("{} = {file}", option.trim_start_matches('-'));
    let lines = listing.lines().map(str::to_owned);
    // `app` marks the mount before it, and is no option.
    lines
        .filter(|line| {
            *line != first && !["show-config = true", "clock = none", "app = "].contains(&&**line)
        })
        .collect()
}

/// Those that our reader has.
fn ours(dir: &Path, form: Form, file: &str) -> Vec<String> {
    let environment: Environment = VARIABLES.iter().copied().collect();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (uid, gid) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let named = |option: &str| {
        let name = Command::new("id").arg(option).output().unwrap().stdout;
        String::from_utf8(name).unwrap().trim().to_owned()
    };
    let files = Files::OF_THIS_MACHINE;
    let around = Surroundings {
        environment: &environment,
        current_dir: dir,
        hostname: hostname.trim().to_owned(),
        cpus: std::thread::available_parallelism().unwrap().get(),
        user: (uid, named("-un")),
        group: (gid, named("-gn")),
        is_root: uid == 0,
        is_explained: false,
        now: std::time::SystemTime::now(),
        files: &files,
    };
    let sources = Sources {
        variables: true,
        files: vec![(file.to_owned(), form)],
        ..Sources::default()
    };
    let options = options_of(&sources, &around);
    let fatal: Vec<_> = options
        .lines
        .iter()
        .filter(|line| line.verdict.is_fatal())
        .collect();
    assert!(fatal.is_empty(), "{file}: {fatal:?}");
    let items = options.items.into_iter();
    items
        .map(|item| format!("{} = {}", item.key, item.value.unwrap_or_default()))
        .collect()
}

#[test]
fn files_mean_to_us_what_they_mean_to_uwsgi() {
    let Some(uwsgi) = program("uwsgi", "uwsgi") else {
        return;
    };
    let dir = temp_dir();
    let dir: PathBuf = dir.path().canonicalize().unwrap();
    other_files(&dir);
    let forms = [
        (Form::Ini, "--ini", "site.ini", INI),
        (Form::Yaml, "--yaml", "site.yaml", YAML),
        (Form::Xml, "--xml", "site.xml", XML),
    ];
    let mut wrong = Vec::new();
    let mut count = 0;
    for (form, option, file, texts) in forms {
        for text in texts {
            fs::write(dir.join(file), text).unwrap();
            let (real, ours) = (real(&uwsgi, &dir, option, file), ours(&dir, form, file));
            // They print in a different order than they have them: variables come first in both.
            if real != ours {
                wrong.push(format!("--- {text}--- uWSGI\n{real:?}\n--- ours\n{ours:?}"));
            }
            count += 1;
        }
    }
    assert!(count >= 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
