//! `omk templates`: what is kept by name, and what is in it.

use serde::Serialize;

use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, FlagGroup, LowArgs, shared};
use crate::cli::template;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::{escape, escape_os, truncate};

/// Its place in the table of commands.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "templates",
    positionals: "[NAME]",
    completes: Completes::Nothing,
    at_most: 1,
    summary: "list prompt templates, or print one",
    doc: "Lists the templates that `omk prompt -t NAME` finds, with their places: files ending in .txt in the \
directory `templates` beside the config file. With NAME it prints one.\n\n\
A template is a text. A name in two pairs of braces is a place that `--var NAME=VALUE` fills, once. The value itself \
is not searched for places. One JSON object before the text may set model, system, schema, thinking, temperature, \
max-usd, max-tokens, max-output-tokens, deadline, extract and description.",
    examples: &[
        ("omk templates", "Their names, places and descriptions."),
        ("omk templates review", "The text of one."),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[&shared::JSON, &shared::QUIET],
    }],
    run: |invocation, env| run(&invocation.low, env),
};

/// The JSON document `omk.templates/1`. Fields are only ever added.
#[derive(Serialize)]
struct Listing {
    directory: Option<String>,
    templates: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    name: String,
    path: String,
    places: Vec<String>,
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn run(low: &LowArgs, env: &mut Env) -> Result<Exit, Failure> {
    let directory = template::directory(env);
    let named = low.positionals.first();
    let mut templates = Vec::new();
    if let Some(name) = named {
        let path = template::path(name, env)?;
        let template = template::read(&path)?;
        if !low.json {
            env.output.print(&template.body)?;
            return Ok(Exit::Done);
        }
        templates.push(item(&escape_os(name), &path, &template, true));
    } else if let Some(directory) = &directory {
        for path in files(directory)? {
            let name = path.file_stem().map(escape_os).unwrap_or_default();
            match template::read(&path) {
                Ok(template) => templates.push(item(&name, &path, &template, false)),
                Err(failure) => env.output.warning(failure.detail),
            }
        }
    }
    if low.json {
        let listing = Listing {
            directory: directory.map(|directory| escape_os(&directory)),
            templates,
        };
        env.output
            .document("omk.templates/1", Exit::Done, &listing, None)?;
        return Ok(Exit::Done);
    }
    if templates.is_empty() {
        let place = directory.map_or("no directory".to_string(), |d| escape_os(&d));
        env.output.print(&format!("no templates in {place}\n"))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(vec![
        ("template", Align::Left),
        ("places", Align::Left),
        ("description", Align::Left),
    ]);
    for item in &templates {
        let places = match item.places.is_empty() {
            true => "-".to_string(),
            false => item.places.join(","),
        };
        let description = item.description.as_deref().unwrap_or("-");
        table.row(vec![
            item.name.clone(),
            places,
            escape(&truncate(description, 60)).into_owned(),
        ]);
    }
    env.output.print(&table.render())?;
    Ok(Exit::Done)
}

fn item(name: &str, path: &std::path::Path, template: &template::Template, whole: bool) -> Item {
    let places = template::places(&template.body);
    Item {
        name: name.to_string(),
        path: escape_os(path),
        places: places.into_iter().map(str::to_string).collect(),
        description: template.description.clone(),
        text: whole.then(|| template.body.clone()),
    }
}

/// The files of the templates, by name; none where there is no directory.
fn files(directory: &std::path::Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let detail = format!("`{}`: {error}", escape_os(directory));
            return Err(Failure::new(Exit::NoInput, "input", detail));
        }
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    files.sort();
    Ok(files)
}
