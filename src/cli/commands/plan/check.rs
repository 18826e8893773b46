//! `omk plan check`: findings for people, for scripts, for GitHub and for code scanning.
//!
//! The result is the findings, printed whatever the verdict; the exit code is the verdict. A file that cannot be read is
//! named, the others are still looked at.

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::cli::commands::plan;
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::ErrorReport;
use crate::cli::exit::Exit;
use crate::cli::exit::Failure;
use crate::cli::flags::Invocation;
use crate::cli::flags::UsageError;
use crate::cli::flags::value::Format;
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared, value};
use crate::cli::input::Source;
use crate::plan::check;
use crate::plan::check::Checked;
use crate::plan::check::PlanFormat;
use crate::plan::finding::Code;
use crate::plan::finding::Finding;
use crate::plan::finding::Severity;
use crate::plan::finding::line_and_column;
use crate::runtime::text::escape;
use crate::runtime::text::truncate;

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "plan check",
    positionals: "FILE...",
    completes: Completes::Files,
    at_most: usize::MAX,
    summary: "find mistakes in any plan, offline",
    doc: "Checks the plan in each FILE (`-` for standard input): cycles, unknown dependencies, tasks that write the \
same file at the same time, criteria that cannot be checked. It reads omk plans, task-master's tasks.json, and the \
tasks.md of spec-kit and OpenSpec. The format is detected from the content and named in the output; {--as} overrides \
it. No network is used.\n\n\
Each finding has a code that never changes its meaning, see omk-findings(7) or {--explain}. The exit code is 4 if \
there is an error, and with {--strict} also if there is a warning.",
    examples: &[
        ("omk plan check plan.json", "What is wrong with a plan."),
        (
            "omk plan check .taskmaster/tasks/tasks.json specs/001-login/tasks.md --strict",
            "Plans of other tools, warnings counted as errors.",
        ),
        (
            "omk plan check --explain OMK-P012",
            "What a code means, and how to fix it.",
        ),
        (
            "omk plan check plan.json --format sarif > plan.sarif",
            "Findings for a code scanning service.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[
            &FORMAT,
            &STRICT,
            &READ_AS,
            &EXPLAIN,
            &shared::READ_DEADLINE,
            &shared::JSON,
            &shared::QUIET,
        ],
    }],
    run: |invocation, env| run(CheckArgs::resolve(invocation, env)?, env),
};

static FORMAT: Flag = Flag {
    takes: Takes::Value("FORMAT", |low, v| {
        let known = [Format::Text, Format::Json, Format::Github, Format::Sarif];
        low.format = Some(value::one_of(v, &known)?);
        Ok(())
    }),
    doc: "Form to print in. github is for annotations of a workflow run, sarif for code scanning (2.1.0). The default is text.",
    choices: &["text", "json", "github", "sarif"],
    ..plan::FORMAT
};

static STRICT: Flag = Flag {
    doc: "Treat warnings as errors. The exit code is then 4 for any finding.",
    ..plan::STRICT
};

static READ_AS: Flag = Flag {
    long: "as",
    takes: Takes::Value("FORMAT", |low, v| {
        low.plan.read_as = Some(value::word(v)?);
        Ok(())
    }),
    doc: "Format to read every FILE as. By default it is detected.",
    choices: &["omk", "task-master", "spec-kit", "openspec"],
    completes: Completes::Choices,
    ..Flag::BLANK
};

static EXPLAIN: Flag = Flag {
    long: "explain",
    takes: Takes::Value("CODE", |low, v| {
        let codes: Vec<(&str, Code)> = Code::ALL.iter().map(|code| (code.id(), *code)).collect();
        low.plan.explain = Some(value::choice(v, &codes)?);
        Ok(())
    }),
    doc: "Explain a finding by its code. Such as OMK-P012; no FILE is read.",
    ..Flag::BLANK
};

/// What `omk plan check` was asked.
#[derive(Debug)]
pub(crate) struct CheckArgs {
    /// What to look at, at least one.
    inputs: Vec<Source>,
    /// How to print what was found.
    format: Format,
    /// Warnings fail the run too.
    strict: bool,
    /// The format of every input; found out where it is not said.
    read_as: Option<PlanFormat>,
    /// A code to explain instead of looking at anything.
    explain: Option<Code>,
    /// The end of the run.
    deadline: Deadline,
}

impl CheckArgs {
    /// Needs at least one file: a validator that waits for a terminal when a variable was empty helps nobody.
    pub(crate) fn resolve(invocation: Invocation, env: &Env) -> Result<CheckArgs, UsageError> {
        let low = invocation.low;
        let format = plan::format(&low)?;
        let inputs = plan::sources(low.positionals)?;
        if low.plan.explain.is_some() && !inputs.is_empty() {
            return Err(UsageError::conflict("--explain", "a FILE"));
        }
        if inputs.is_empty() && low.plan.explain.is_none() {
            return Err(UsageError::new("plan check needs a FILE").hint("`-` is standard input"));
        }
        Ok(CheckArgs {
            inputs,
            format,
            strict: low.strict,
            read_as: low.plan.read_as,
            explain: low.plan.explain,
            deadline: Deadline::new(env.started, low.deadline),
        })
    }
}

/// One input that was looked at.
struct Looked {
    name: String,
    is_stdin: bool,
    text: String,
    checked: Checked,
    /// The format was found out and not given.
    is_detected: bool,
}

impl Looked {
    fn count(&self, severity: Severity) -> usize {
        self.checked.findings.count(severity)
    }

    /// Each finding with its line and column.
    fn findings(&self) -> impl Iterator<Item = (&Finding, usize, usize)> {
        self.checked.findings.list().iter().map(|finding| {
            let (line, column) = line_and_column(&self.text, finding.at);
            (finding, line, column)
        })
    }

    /// `2 errors and 1 warning`; nothing when there is nothing.
    fn summary(&self) -> Option<String> {
        let counted = |severity: Severity| match self.count(severity) {
            0 => None,
            1 => Some(format!("1 {}", severity.name())),
            count => Some(format!("{count} {}s", severity.name())),
        };
        let parts: Vec<String> = [Severity::Error, Severity::Warning]
            .into_iter()
            .filter_map(counted)
            .collect();
        let mut summary = (!parts.is_empty()).then(|| parts.join(" and "))?;
        if self.checked.findings.omitted() > 0 {
            summary.push_str(&format!(
                " listed, {} more not",
                self.checked.findings.omitted()
            ));
        }
        Some(summary)
    }
}

/// Looks at every input and prints what it found.
pub(crate) fn run(args: CheckArgs, env: &mut Env) -> Result<Exit, Failure> {
    if let Some(code) = args.explain {
        env.output.print(&explanation(code))?;
        return Ok(Exit::Done);
    }
    let mut looked = Vec::new();
    let mut failures = Vec::new();
    for source in &args.inputs {
        match plan::read(source, args.deadline, env) {
            Ok(text) => looked.push(Looked {
                name: source.name(),
                is_stdin: *source == Source::Stdin,
                checked: match args.read_as {
                    Some(format) => check::check_as(&text, format),
                    None => check::check(&text),
                },
                text,
                is_detected: args.read_as.is_none(),
            }),
            Err(failure) if failure.is_silent() || failure.exit == Exit::Deadline => {
                return Err(failure);
            }
            Err(failure) => failures.push(failure),
        }
    }
    for failure in &failures {
        env.output.failure(failure);
    }
    let is_invalid = |looked: &&Looked| {
        looked.count(Severity::Error) > 0 || args.strict && !looked.checked.findings.is_empty()
    };
    let invalid: Vec<String> = looked
        .iter()
        .filter(is_invalid)
        .map(|looked| {
            format!(
                "`{}` has {}",
                looked.name,
                looked.summary().unwrap_or_default()
            )
        })
        .collect();
    let invalid = (!invalid.is_empty())
        .then(|| Failure::new(Exit::Invalid, "invalid plan", invalid.join("; ")));
    if let Some(invalid) = &invalid {
        env.output.failure_after_result(invalid);
    }
    // What was not read at all outweighs what was found elsewhere: the verdict is not complete.
    failures.extend(invalid);
    let verdict = Failure::merge(failures);
    match args.format {
        Format::Json => {
            let warnings = env.output.warnings().to_vec();
            env.output
                .json(&document(&looked, verdict.as_ref(), &warnings))?;
        }
        Format::Github => env.output.print(&github(&looked))?,
        Format::Sarif => env.output.json(&sarif(&looked))?,
        _ => env.output.print(&text(&looked))?,
    }
    Ok(verdict.map_or(Exit::Done, |failure| failure.exit))
}

/// What a code means, for people.
fn explanation(code: Code) -> String {
    format!(
        "{} {} ({})\n\n{}\n\nfix: {}\n",
        code.id(),
        code.name(),
        code.severity().name(),
        code.meaning(),
        code.fix()
    )
}

/// Each finding as compilers print them, with the place in the text and the fix, and a line for each file.
fn text(looked: &[Looked]) -> String {
    let mut out = String::new();
    for file in looked {
        for (finding, line, column) in file.findings() {
            let severity = finding.code.severity().name();
            out.push_str(&format!(
                "{}:{line}:{column}: {severity}: {finding}\n{}  fix: {}\n",
                file.name,
                snippet(&file.text, finding.at, line),
                finding.code.fix()
            ));
        }
        let format = file.checked.format;
        if file.is_detected && file.count(Severity::Error) > 0 {
            out.push_str(&format!(
                "{}: detected format: {format} (--as overrides it)\n",
                file.name
            ));
        }
        let what = match format {
            PlanFormat::Omk => "slice",
            _ => "task",
        };
        let plural = if file.checked.items == 1 { "" } else { "s" };
        out.push_str(&format!(
            "{}: {format} plan, {} {what}{plural}: {}\n",
            file.name,
            file.checked.items,
            file.summary()
                .unwrap_or_else(|| "nothing found".to_string())
        ));
    }
    out
}

/// The line of an offset with a caret under the place; of a long line the part around it.
fn snippet(text: &str, at: usize, number: usize) -> String {
    const BEFORE: usize = 30;
    const WIDTH: usize = 72;
    let at = at.min(text.len());
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let before = before.rsplit('\n').next().unwrap_or_default();
    let after = after.lines().next().unwrap_or_default();
    if before.is_empty() && after.is_empty() {
        return String::new();
    }
    let skipped = before.chars().count().saturating_sub(BEFORE);
    let before: String = before.chars().skip(skipped).collect();
    let mark = if skipped > 0 { "…" } else { "" };
    let before = format!("{mark}{}", escape(&before));
    let after = truncate(after, WIDTH.saturating_sub(before.chars().count()));
    let number = number.to_string();
    let margin = " ".repeat(number.len());
    format!(
        "  {number} | {before}{}\n  {margin} | {}^\n",
        escape(&after),
        " ".repeat(before.chars().count())
    )
}

/// The JSON document `omk.plan-check/1`. Fields are only ever added.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    ok: bool,
    exit: u8,
    files: Vec<FileReport<'a>>,
    warnings: &'a [String],
    error: Option<ErrorReport<'a>>,
}

#[derive(Serialize)]
struct FileReport<'a> {
    file: &'a str,
    format: &'static str,
    /// The format was found out and not given with `--as`.
    detected: bool,
    items: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<FindingReport<'a>>,
    omitted: usize,
}

#[derive(Serialize)]
struct FindingReport<'a> {
    code: &'static str,
    name: &'static str,
    severity: &'static str,
    path: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
    fix: &'static str,
}

fn document<'a>(
    looked: &'a [Looked],
    verdict: Option<&'a Failure>,
    warnings: &'a [String],
) -> Document<'a> {
    let file = |file: &'a Looked| FileReport {
        file: &file.name,
        format: file.checked.format.name(),
        detected: file.is_detected,
        items: file.checked.items,
        errors: file.count(Severity::Error),
        warnings: file.count(Severity::Warning),
        findings: file
            .findings()
            .map(|(finding, line, column)| FindingReport {
                code: finding.code.id(),
                name: finding.code.name(),
                severity: finding.code.severity().name(),
                path: &finding.path,
                line,
                column,
                message: &finding.message,
                fix: finding.code.fix(),
            })
            .collect(),
        omitted: file.checked.findings.omitted(),
    };
    Document {
        schema: "omk.plan-check/1",
        ok: verdict.is_none(),
        exit: verdict.map_or(Exit::Done, |failure| failure.exit).code(),
        files: looked.iter().map(file).collect(),
        warnings,
        error: verdict.map(Failure::report),
    }
}

/// Annotations as workflow commands of GitHub Actions; nothing when nothing was found.
fn github(looked: &[Looked]) -> String {
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for file in looked {
        let place = if file.is_stdin {
            String::new()
        } else {
            format!("file={},", property(&file.name))
        };
        for (finding, line, column) in file.findings() {
            let level = finding.code.severity().name();
            let title = property(&format!("{} {}", finding.code.id(), finding.code.name()));
            let words = match finding.path.as_str() {
                "" => finding.message.clone(),
                path => format!("{path}: {}", finding.message),
            };
            out.push_str(&format!(
                "::{level} {place}line={line},col={column},title={title}::{}\n",
                data(&words)
            ));
        }
    }
    out
}

/// SARIF 2.1.0 with every rule, so that a viewer can explain what it shows.
fn sarif(looked: &[Looked]) -> Value {
    let rules: Vec<Value> = Code::ALL
        .iter()
        .map(|code| {
            json!({
                "id": code.id(),
                "name": code.name(),
                "shortDescription": {"text": escape(code.meaning())},
                "help": {"text": code.fix()},
                "defaultConfiguration": {"level": code.severity().name()},
            })
        })
        .collect();
    let mut results = Vec::new();
    for file in looked {
        for (finding, line, column) in file.findings() {
            let logical: Vec<Value> = Some(&finding.path)
                .filter(|path| !path.is_empty())
                .map(|path| json!({"fullyQualifiedName": path}))
                .into_iter()
                .collect();
            let location = json!({
                "physicalLocation": {
                    "artifactLocation": {"uri": uri(&file.name)},
                    "region": {"startLine": line, "startColumn": column},
                },
                "logicalLocations": logical,
            });
            results.push(json!({
                "ruleId": finding.code.id(),
                "ruleIndex": Code::ALL.iter().position(|code| *code == finding.code),
                "level": finding.code.severity().name(),
                "message": {"text": finding.message},
                "locations": [location],
            }));
        }
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "omk", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// A path as a relative or `file` URI: what has a meaning there is written as an escape.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte))
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(name: &str, text: &str) -> Vec<Looked> {
        vec![Looked {
            name: name.to_string(),
            is_stdin: name == "-",
            text: text.to_string(),
            checked: check::check(text),
            is_detected: true,
        }]
    }

    const CIRCLE: &str = "{\"goal_text\":\"g\",\"kind\":\"repair\",\"complexity_score\":1,\"slices\":[{\"id\":\"a\",\"description\":\"x\"},\n\
{\"id\":\"b: 50%, é\",\"description\":\"x\"}],\n\"dependencies\":[[0,1],[1,0]]}";

    #[test]
    fn lines_as_compilers_print_them() {
        assert_eq!(
            text(&looked("plan.json", CIRCLE)),
            "plan.json:3:16: error: OMK-P011: $.dependencies: cycle: a -> b: 50%, é -> a
  3 | \"dependencies\":[[0,1],[1,0]]}
    |                ^
  fix: remove one of the dependencies in the cycle
plan.json: detected format: omk (--as overrides it)
plan.json: omk plan, 2 slices: 1 error
"
        );
    }

    #[test]
    fn a_snippet_shows_the_place_in_a_long_line() {
        let line = format!("{}here{}", "é\t".repeat(40), "x".repeat(80));
        let at = line.find("here").unwrap();
        let shown = snippet(&line, at, 12);
        let mut lines = shown.lines();
        let (text, caret) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(
            text.starts_with("  12 | …") && text.ends_with('…'),
            "{shown}"
        );
        let column = caret.chars().position(|c| c == '^').unwrap();
        assert_eq!(
            text.chars().skip(column).take(4).collect::<String>(),
            "here"
        );
        assert_eq!(snippet("", 0, 1), "");
        let from_the_start = snippet(&"x".repeat(100), 0, 1);
        assert_eq!(from_the_start.matches('x').count(), 71, "{from_the_start}");
        assert_eq!(snippet("a\nb", 2, 2), "  2 | b\n    | ^\n");
    }

    #[test]
    fn annotations_escape_what_has_a_meaning() {
        assert_eq!(
            github(&looked("a,b:c.json", CIRCLE)),
            "::error file=a%2Cb%3Ac.json,line=3,col=16,title=OMK-P011 cycle::$.dependencies: cycle: a -> b: 50%25, é -> a\n"
        );
        assert!(github(&looked("-", CIRCLE)).starts_with("::error line=3,"));
    }

    #[test]
    fn sarif_names_rule_place_and_level() {
        let log = sarif(&looked("a b.json", CIRCLE));
        let result = &log["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "OMK-P011");
        let rule = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(
            log["runs"][0]["tool"]["driver"]["rules"][rule]["id"],
            "OMK-P011"
        );
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b.json");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 16}));
        assert_eq!(uri("/a/ü"), "file:///a/%C3%BC");
    }
}
