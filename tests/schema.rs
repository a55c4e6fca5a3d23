//! The JSON schema of `pyserve.toml`.

use serde_json::Value;

use crate::support::server::Pyserve;
use crate::support::{source, temp_dir, write_files};

fn schema() -> Value {
    let ended = Pyserve::bare().args(["schema"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// Checks a value by the keywords that the schema has (JSON Schema, draft 2020-12); the path of the
/// first part that does not match.
fn check(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let keywords = schema.as_object().expect("a schema is an object");
    for (keyword, operand) in keywords {
        let is_valid = match keyword.as_str() {
            "type" => has_type(operand, value),
            "enum" => operand.as_array().expect("a list").contains(value),
            "anyOf" => {
                let forms = operand.as_array().expect("a list");
                forms.iter().any(|form| check(form, value, path).is_ok())
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(operand, item, path)?;
                }
                true
            }
            "properties" => true,
            "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    let known = keywords.get("properties").and_then(|all| all.get(name));
                    let path = format!("{path}.{name}");
                    match known.unwrap_or(operand) {
                        Value::Bool(false) => return Err(format!("{path}: unknown")),
                        schema => check(schema, item, &path)?,
                    }
                }
                true
            }
            "$schema" | "title" | "description" | "default" => true,
            other => panic!("this test does not know {other}"),
        };
        if !is_valid {
            return Err(format!(
                "{path}: {value} does not match {keyword} {operand}"
            ));
        }
    }
    Ok(())
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().expect("a name") {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("this test does not know {other}"),
    };
    match types {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

fn of_toml(schema: &Value, text: &str) -> Result<(), String> {
    let value: toml::Value = toml::from_str(text).map_err(|error| format!("{error}\n{text}"))?;
    let value = serde_json::to_value(value).expect("it has no dates");
    check(schema, &value, "").map_err(|error| format!("{error}\n{text}"))
}

/// The blocks of `toml` in a Markdown document, and those without a language that are TOML.
fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut fences = markdown.split("\n```");
    fences.next();
    while let Some(opened) = fences.next() {
        let (language, block) = opened.split_once('\n').unwrap_or((opened, ""));
        let is_toml = || toml::from_str::<toml::Table>(block).is_ok_and(|table| !table.is_empty());
        if language == "toml" || (language.is_empty() && is_toml()) {
            blocks.push(block.to_owned());
        }
        fences.next();
    }
    blocks
}

#[test]
fn every_example_of_the_manual_is_valid() {
    let schema = schema();
    let mut documents = vec![source("README.md")];
    let manual = std::fs::read_dir(source("src/docs")).expect("the manual");
    documents.extend(manual.map(|entry| entry.expect("an entry").path()));
    let mut count = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("text");
        for block in blocks(&text) {
            if let Err(error) = of_toml(&schema, &block) {
                panic!("{}: {error}", document.display());
            }
            count += 1;
        }
    }
    assert!(count >= 9, "{count} blocks");
}

#[test]
fn every_file_that_explain_writes_is_valid() {
    let schema = schema();
    let corpus = std::fs::read_dir(source("tests/foreign/uwsgi")).expect("the corpus");
    let paths = corpus.map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "ini"))
        .collect();
    assert!(files.len() > 40);
    for file in files {
        let ended = Pyserve::bare()
            .args(["explain", "--json"])
            .args([&file])
            .run();
        let explained: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        if let Some(toml) = explained["pyserve_toml"].as_str()
            && let Err(error) = of_toml(&schema, toml)
        {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn each_setting_has_its_help_and_mistakes_are_found() {
    let schema = schema();
    let workers = &schema["properties"]["workers"];
    assert!(
        workers["description"]
            .as_str()
            .is_some_and(|text| text.len() > 10)
    );
    for right in [
        "workers = 4\ndev = true\nthreads = '2'",
        "bind = 8000",
        "bind = ['8000', 'unix:/run/a.sock']",
        "static = { '/media' = 'uploads' }",
        "[[location]]\nprefix = '/old'\nredirect = '/new'",
        "[[companion]]\ncommand = ['celery', 'worker']",
        "[[certificate]]\ncert = 'a.pem'\nkey = 'a.key'",
    ] {
        of_toml(&schema, right).expect(right);
    }
    for (wrong, place) in [
        ("workerz = 4", ".workerz: unknown"),
        ("config = 'other.toml'", ".config: unknown"),
        ("dev = 5", ".dev"),
        ("balance = 'random'", ".balance"),
        ("workers = [1, 2]", ".workers"),
        ("app = {}", ".app"),
        (
            "[[location]]\nprefixes = '/a'",
            ".location.prefixes: unknown",
        ),
        ("[location]\nprefix = '/a'", ".location"),
        (
            "[[companion]]\nname = 'a'\nworkers = 2",
            ".companion.workers: unknown",
        ),
        ("[[certificate]]\nca = 'a.pem'", ".certificate.ca: unknown"),
    ] {
        let error = of_toml(&schema, wrong).expect_err(wrong);
        assert!(error.starts_with(place), "{wrong}: {error}");
    }
}

#[test]
fn words_of_toml_for_yes_and_no_are_valid_wherever_the_server_takes_them() {
    let schema = schema();
    let dir = temp_dir();
    write_files(dir.path(), &[("static/index.html", "page")]);
    let names = schema["properties"].as_object().expect("settings").keys();
    let mut refused = 0;
    for name in names {
        for word in ["true", "false"] {
            let line = format!("{name} = {word}\n");
            if of_toml(&schema, &line).is_ok() {
                continue;
            }
            refused += 1;
            write_files(dir.path(), &[("pyserve.toml", &line)]);
            let ended = Pyserve::bare()
                .args(["check"])
                .current_dir(dir.path())
                .run();
            assert_eq!(ended.code, 78, "{line}{}", ended.stdout);
            assert!(ended.stderr.contains(name), "{line}{}", ended.stderr);
        }
    }
    assert!(refused > 10, "{refused}");
}
