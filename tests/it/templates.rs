//! `omk prompt --template` and `omk templates`.

use serde_json::json;

use crate::result::KEY;
use crate::sandbox::{Run, Sandbox};
use crate::service::{Answer, Service};

fn ask(sandbox: &Sandbox, service: &Service, flags: &str) -> Run {
    sandbox
        .omk(&format!("prompt --base-url {} {flags}", service.url()))
        .env("MOONSHOT_API_KEY", KEY)
}

fn service() -> Service {
    Service::new(|_| Answer::text(["{\"ok\": true}"]))
}

/// Writes a template that is kept by name.
fn keep(sandbox: &Sandbox, name: &str, text: &str) {
    let directory = sandbox.path("config/omk/templates");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), text).unwrap();
}

#[test]
fn a_template_is_filled_from_values_files_and_stdin() {
    let sandbox = Sandbox::new("a_template_is_filled_from_values_files_and_stdin");
    keep(
        &sandbox,
        "review.txt",
        "Review {{what}} for {{who}}:\n{{diff}}\n{{stdin}} {{text}}\n",
    );
    sandbox.file("a.diff", "+ {{who}}");
    let service = service();
    let flags = "-t review --var what=this --var who=Ada --var diff=@a.diff Be kind.";
    ask(&sandbox, &service, flags)
        .stdin("from the pipe")
        .run()
        .code(0);
    ask(&sandbox, &service, "--template ./own.tmpl --var a=@-")
        .stdin("piped")
        .run()
        .code(66)
        .stderr_contains("own.tmpl");
    sandbox.file("own.tmpl", "A: {{a}}");
    ask(&sandbox, &service, "--template ./own.tmpl --var a=@- More.")
        .stdin("piped")
        .run()
        .code(0);
    ask(&sandbox, &service, "--template own.tmpl --var a=1")
        .stdin("piped")
        .run()
        .code(0);
    let calls = service.calls();
    let asked = |call: usize| calls[call].last()["content"].as_str().unwrap().to_string();
    // A value is not looked into.
    assert_eq!(
        asked(0),
        "Review this for Ada:\n+ {{who}}\nfrom the pipe Be kind.\n"
    );
    assert_eq!(asked(1), "A: piped\n\nMore.");
    assert_eq!(asked(2), "A: 1\n\n<stdin>\npiped\n</stdin>");
}

#[test]
fn a_header_sets_what_no_flag_does() {
    let sandbox = Sandbox::new("a_header_sets_what_no_flag_does");
    let header = json!({
        "description": "a check", "model": "kimi-k2.6", "system": "Be terse.", "max-output-tokens": "2k",
        "schema": {"type": "object", "required": ["ok"]},
    });
    keep(
        &sandbox,
        "check.txt",
        &format!("{header}\nIs {{{{text}}}} right?"),
    );
    keep(&sandbox, "short.txt", "{\"schema\": \"ok bool\"}\nIs it?");
    let service = service();
    ask(&sandbox, &service, "-t check it")
        .run()
        .code(0)
        .stdout("{\"ok\": true}\n");
    ask(&sandbox, &service, "-t check -m kimi-k3 -s Long. it")
        .env("OMK_MODEL", "other")
        .run()
        .code(0);
    ask(&sandbox, &service, "-t short")
        .run()
        .code(0)
        .stdout("{\"ok\": true}\n");
    let calls = service.calls();
    assert_eq!(calls[0].body["model"], "kimi-k2.6");
    assert_eq!(calls[0].body["max_completion_tokens"], 2000);
    assert_eq!(calls[0].body["messages"][0]["content"], "Be terse.");
    assert!(calls[0].asks("Is it right?"));
    assert_eq!(calls[1].body["model"], "kimi-k3");
    assert_eq!(calls[1].body["messages"][0]["content"], "Long.");
    assert_eq!(calls.len(), 3);
}

#[test]
fn nothing_is_sent_for_a_template_that_is_wrong() {
    let sandbox = Sandbox::new("nothing_is_sent_for_a_template_that_is_wrong");
    keep(&sandbox, "two.txt", "{{a}} {{b}}");
    keep(&sandbox, "loose.txt", "{\"allow\": \"all\"}\nGo.");
    keep(&sandbox, "wrong.txt", "{\"max-usd\": \"much\"}\nGo.");
    let service = service();
    for (flags, code, message) in [
        ("-t two --var a=1", 2, "places without a value: b"),
        (
            "-t two --var a=1 --var b=2 --var c=3",
            2,
            "no place named c; it has a, b",
        ),
        ("-t missing", 66, "the template `"),
        ("-t loose", 78, "unknown key `allow`"),
        ("-t wrong", 78, "`max-usd`: `much` is not an amount"),
        ("--var a=1 Why?", 2, "--var needs --template"),
        ("-t two --var a", 2, "use name=value"),
    ] {
        ask(&sandbox, &service, flags)
            .run()
            .code(code)
            .stderr_contains(message);
    }
    assert_eq!(service.calls().len(), 0);
}

#[test]
fn templates_are_listed_and_printed() {
    let sandbox = Sandbox::new("templates_are_listed_and_printed");
    sandbox
        .omk("templates")
        .run()
        .code(0)
        .stdout_contains("no templates in ");
    keep(
        &sandbox,
        "review.txt",
        "{\"description\": \"For diffs\"}\nReview {{diff}} for {{who}}.\n",
    );
    keep(&sandbox, "broken.txt", "{\"modle\": 1}\n");
    keep(&sandbox, "other.md", "not one");
    let outcome = sandbox.omk("templates").run();
    outcome
        .code(0)
        .stdout("template  places    description\nreview    diff,who  For diffs\n");
    outcome.stderr_contains("unknown key `modle`: did you mean `model`?");
    sandbox
        .omk("templates review")
        .run()
        .code(0)
        .stdout("Review {{diff}} for {{who}}.\n");
    let document = sandbox.omk("templates --json -q").run().code(0).json();
    assert_eq!(document["schema"], "omk.templates/1");
    assert_eq!(document["templates"][0]["places"], json!(["diff", "who"]));
    assert_eq!(document["warnings"].as_array().unwrap().len(), 1);
    sandbox.omk("templates nothing").run().code(66);
}
