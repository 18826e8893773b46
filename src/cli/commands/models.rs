//! `omk models` and `omk models update`: what is known about models, and how to know more.
//!
//! The listing shows what is in force, so it fails where an estimate would fail. It refuses to show a number where there
//! is none: a flat fee is `plan` and the unknown is `-`. The update replaces the fetched list as a whole or not at all.

use std::path::PathBuf;

use serde::Serialize;

use crate::catalog::price_file::PriceFile;
use crate::catalog::{Billing, Catalog, Model, Price, Rates, Status, models_dev};
use crate::cli::deadline::Deadline;
use crate::cli::env::Env;
use crate::cli::exit::{Exit, Failure};
use crate::cli::flags::{CommandSpec, Completes, Flag, FlagGroup, Takes, shared};
use crate::cli::flags::{LowArgs, UsageError, value};
use crate::cli::network;
use crate::cli::prices::{self, Provenance, said};
use crate::cli::store::store;
use crate::runtime::table::{Align, Table};
use crate::runtime::text::{escape, escape_os};

/// `omk models`.
pub(crate) static SPEC: CommandSpec = CommandSpec {
    name: "models",
    positionals: "[NAME]",
    completes: Completes::Models,
    at_most: 1,
    summary: "list models, context windows and prices",
    doc: "Lists the models that omk knows: provider, context window, vocabulary, the rates for input, cached input, \
cache writes and output in US dollars per 1M tokens, and the date of the rates. An indented line has the rates for \
longer prompts. ~ marks a vocabulary that is only the nearest one, - an unknown value, and plan a subscription. With \
{--json} each row also has the source of its rates.\n\n\
With NAME only models whose name or provider/name contains it are listed; retired ones only if named in full.\n\n\
A model that is not listed has no price. omk never uses the price of a similar name: give {--price} or {--price-file}.",
    examples: &[
        ("omk models", "Every current model."),
        (
            "omk models kimi --all",
            "Every Kimi model, retired ones too.",
        ),
        (
            "omk models --json",
            "What is in force and where it came from, as JSON.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[&ALL, &shared::PRICE_FILE, &shared::JSON],
    }],
    run: |invocation, env| run(ModelsArgs::resolve(invocation.low)?, env),
};

/// `omk models update`.
pub(crate) static UPDATE: CommandSpec = CommandSpec {
    name: "models update",
    positionals: "",
    completes: Completes::Nothing,
    at_most: 0,
    summary: "fetch current rates from models.dev",
    doc: "Fetches a list of models and rates into the config directory. The list is checked as a whole before it \
replaces the previous one; on any error nothing changes. From then on its rates are used instead of those built in; a \
{--price-file} still overrides both. Deleting the file models.dev.json undoes it.",
    examples: &[
        ("omk models update", "Fetches from models.dev."),
        (
            "omk models update --url https://mirror.example/api.json",
            "Fetches the same format from elsewhere.",
        ),
    ],
    flags: &[FlagGroup {
        title: "",
        flags: &[&URL, &DEADLINE, &shared::JSON],
    }],
    run: |invocation, env| update(UpdateArgs::resolve(invocation.low, env)?, env),
};

static DEADLINE: Flag = Flag {
    doc: "End the run after this time. Such as 500ms, 30s, 2m or 1h, up to 1000h; the exit code is 124. By default \
each wait for the network ends after 10s.",
    ..shared::DEADLINE
};

static ALL: Flag = Flag {
    long: "all",
    short: Some('a'),
    takes: Takes::Nothing(|low| low.all = true),
    doc: "List retired models too. By default only those in service are listed.",
    ..Flag::BLANK
};

static URL: Flag = Flag {
    long: "url",
    takes: Takes::Value("URL", |low, v| {
        low.url = Some(value::url(v)?);
        Ok(())
    }),
    doc: "Address of the list of models. It must serve the format of the default, https://models.dev/api.json.",
    ..Flag::BLANK
};

/// What `omk models` was asked.
#[derive(Debug, PartialEq)]
pub(crate) struct ModelsArgs {
    /// Only models whose name contains this.
    pub(crate) filter: Option<String>,
    /// Retired ones too.
    pub(crate) all: bool,
    /// Files of rates, the last one first in force.
    pub(crate) price_files: Vec<PathBuf>,
    /// One JSON document instead of a table.
    pub(crate) json: bool,
}

impl ModelsArgs {
    /// Fails when the filter is not text.
    pub(crate) fn resolve(low: LowArgs) -> Result<ModelsArgs, UsageError> {
        let filter = low.positionals.first().map(|name| value::name(name));
        let filter = filter
            .transpose()
            .map_err(|error| UsageError::new(format!("NAME: {error}")))?;
        Ok(ModelsArgs {
            filter,
            all: low.all,
            price_files: low.price_file,
            json: low.json,
        })
    }
}

/// What `omk models update` was asked.
#[derive(Debug)]
pub(crate) struct UpdateArgs {
    /// Where to fetch from.
    pub(crate) url: String,
    /// One JSON document instead of a line.
    pub(crate) json: bool,
    /// The end of the run; without one the network has its own bound.
    pub(crate) deadline: Deadline,
}

impl UpdateArgs {
    /// Cannot fail today; it returns what the other commands return.
    pub(crate) fn resolve(low: LowArgs, env: &Env) -> Result<UpdateArgs, UsageError> {
        Ok(UpdateArgs {
            url: low.url.unwrap_or_else(|| models_dev::URL.to_string()),
            json: low.json,
            deadline: Deadline::new(env.started, low.deadline),
        })
    }
}

/// The JSON document `omk.models/1`. Fields are only ever added.
#[derive(Serialize)]
struct Listing<'a> {
    models: Vec<Row<'a>>,
}

/// A model of the listing.
#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    aliases: &'a [std::borrow::Cow<'static, str>],
    provider: Option<&'a str>,
    vocabulary: &'static str,
    exact: bool,
    template: &'static str,
    window: Option<u64>,
    max_output: Option<u64>,
    billing: &'static str,
    status: &'static str,
    ends: Option<&'a str>,
    price: Option<&'a Price>,
    #[serde(flatten)]
    provenance: Provenance<'a>,
    note: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(model: &'a Model) -> Row<'a> {
        Row {
            model: &model.id,
            aliases: &model.aliases,
            provider: said(&model.provider),
            vocabulary: model.vocabulary.name(),
            exact: model.exact,
            template: model.template.name(),
            window: model.window,
            max_output: model.max_output,
            billing: model.billing.name(),
            status: model.status.name(),
            ends: model.ends.as_deref(),
            price: model.price.as_ref(),
            provenance: Provenance::of(model),
            note: model.note.as_deref(),
        }
    }
}

/// Lists models.
pub(crate) fn run(args: ModelsArgs, env: &mut Env) -> Result<Exit, Failure> {
    let catalog = prices::load(&args.price_files, env)?;
    let models = select(&catalog, &args)?;
    if !args.json {
        env.output.print("USD per 1M tokens\n")?;
        env.output.print(&table(&models).render())?;
        return Ok(Exit::Done);
    }
    env.output.document(
        "omk.models/1",
        Exit::Done,
        &Listing {
            models: models.into_iter().map(Row::of).collect(),
        },
        None,
    )?;
    Ok(Exit::Done)
}

/// The models to list. A name in full finds a retired model too: whoever types it wants to know.
fn select<'a>(catalog: &'a Catalog, args: &ModelsArgs) -> Result<Vec<&'a Model>, Failure> {
    let exact = args.filter.as_ref().and_then(|name| catalog.find(name));
    let is_exact = |model: &Model| exact.is_some_and(|exact| std::ptr::eq(exact, model));
    let part = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let contains = |model: &Model| {
        let full = format!("{}/{}", model.provider, model.id);
        full.to_lowercase().contains(&part)
            || model
                .aliases
                .iter()
                .any(|alias| alias.to_lowercase().contains(&part))
    };
    let matching = catalog.models().iter();
    let mut matching: Vec<&Model> = matching.filter(|m| is_exact(m) || contains(m)).collect();
    let before = matching.len();
    matching.retain(|m| args.all || m.status != Status::Retired || is_exact(m));
    let Some(name) = args.filter.as_ref().filter(|_| matching.is_empty()) else {
        return Ok(matching);
    };
    if before > 0 {
        let detail = format!("every model of the name `{name}` is retired");
        return Err(Failure::new(Exit::Failed, "models", detail).hint("--all lists them too"));
    }
    let failure = Failure::new(Exit::Failed, "models", format!("no model matches `{name}`"));
    let near = catalog.suggest(name);
    Err(if near.is_empty() {
        failure.hint("`omk models` lists them all")
    } else {
        failure.hint(format!("did you mean `{}`?", near.join("` or `")))
    })
}

/// The table for people. It is tight: with wider gaps the builtin rows would take more than 100 columns.
fn table(models: &[&Model]) -> Table {
    let mut table = Table::new(vec![
        ("model", Align::Left),
        ("provider", Align::Left),
        ("window", Align::Right),
        ("vocabulary", Align::Left),
        ("input", Align::Right),
        ("cached", Align::Right),
        ("write", Align::Right),
        ("output", Align::Right),
        ("as of", Align::Left),
    ])
    .tight();
    for model in models {
        describe(model, &mut table);
    }
    table
}

/// The lines of one model.
fn describe(model: &Model, table: &mut Table) {
    let or_dash = |text: &str| said(text).map_or("-".into(), |text| escape(text).into_owned());
    let mark = if model.exact { "" } else { "~" };
    let window = model.window.map(|tokens| tokens.to_string());
    let mut row = vec![
        model.id.to_string(),
        or_dash(&model.provider),
        window.unwrap_or("-".to_string()),
        format!("{mark}{}", model.vocabulary.name()),
    ];
    row.extend(match (&model.price, model.billing) {
        (Some(price), _) => rates(price.rates()),
        (None, Billing::Subscription) => ["plan"; 4].map(String::from),
        (None, Billing::Metered) => ["-"; 4].map(String::from),
    });
    row.push(or_dash(&model.as_of));
    table.row(row);
    for tier in model.price.iter().flat_map(Price::tiers) {
        let mut row = vec![format!("  above {}", tier.above)];
        row.extend([""; 3].map(String::from));
        row.extend(rates(&tier.rates));
        table.row(row);
    }
    let (status, verb) = match model.status {
        Status::Current => return,
        Status::Deprecated => ("deprecated", "ends"),
        Status::Retired => ("retired", "ended"),
    };
    table.remark(&match &model.ends {
        Some(date) => format!("{status}, {verb} {date}"),
        None => status.to_string(),
    });
}

/// Input, cached input, writing to the cache, output.
fn rates(rates: &Rates) -> [String; 4] {
    [
        Some(rates.input),
        rates.cached_input,
        rates.cache_write,
        Some(rates.output),
    ]
    .map(|rate| rate.map_or("-".to_string(), |rate| rate.exact_decimal()))
}

/// The JSON document `omk.models-update/1`. Fields are only ever added.
#[derive(Serialize)]
struct Updated<'a> {
    url: &'a str,
    path: &'a str,
    priced: usize,
    unpriced: usize,
}

/// Fetches a newer list, checks it, and only then replaces the one before.
pub(crate) fn update(args: UpdateArgs, env: &mut Env) -> Result<Exit, Failure> {
    let Some(path) = prices::snapshot(env) else {
        let detail = "there is no config directory";
        return Err(Failure::new(Exit::Config, "configuration", detail)
            .hint("HOME or XDG_CONFIG_HOME says where it is"));
    };
    let url = network::shown(&args.url);
    let response = network::http(env, args.deadline)?
        .get(&args.url, None)
        .map_err(|error| network::no_answer(&error, url, args.deadline))?;
    network::check_status(&response, url)?;
    let refused = |error: String| {
        Failure::new(Exit::Failed, "models", format!("{url}: {error}"))
            .hint("the list in use is unchanged; --url names the address of another")
    };
    let list = models_dev::convert(&response.body, url, env.clock.now())
        .map_err(|error| refused(error.to_string()))?;
    // What cannot be read back would break every later run.
    PriceFile::parse(&list.document, &path).map_err(|error| refused(error.to_string()))?;
    store(&path, &list.document)?;

    let shown = escape_os(&path);
    if args.json {
        env.output.document(
            "omk.models-update/1",
            Exit::Done,
            &Updated {
                url,
                path: &shown,
                priced: list.priced,
                unpriced: list.unpriced,
            },
            None,
        )?;
    } else {
        env.output.print(&format!(
            "{} models with a price, {} without, from {url} to {shown}\n",
            list.priced, list.unpriced
        ))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(filter: Option<&str>, all: bool) -> Result<Vec<String>, Failure> {
        let args = ModelsArgs {
            filter: filter.map(str::to_string),
            all,
            price_files: Vec::new(),
            json: false,
        };
        let catalog = Catalog::builtin();
        let models = select(&catalog, &args)?;
        Ok(models.iter().map(|model| model.id.to_string()).collect())
    }

    #[test]
    fn the_default_address_is_the_documented_one() {
        assert!(URL.doc.contains(models_dev::URL));
    }

    #[test]
    fn retired_models_are_listed_when_asked_for() {
        let current = listed(None, false).unwrap();
        assert!(current.contains(&"kimi-k2.6".to_string()));
        assert!(!current.contains(&"kimi-k2.5".to_string()));
        assert!(listed(None, true).unwrap().len() > current.len());
        assert_eq!(listed(Some("KIMI-k2.5"), false).unwrap(), ["kimi-k2.5"]);
        let failure = listed(Some("moonshot-v1"), false).unwrap_err();
        assert_eq!(failure.hints, ["--all lists them too"]);
        assert_eq!(listed(Some("moonshot-v1"), true).unwrap().len(), 4);
    }

    #[test]
    fn a_name_is_a_part_of_a_name_an_alias_or_a_provider() {
        let plan = listed(Some("kimi-code-plan/"), false).unwrap();
        assert_eq!(plan.len(), 5);
        assert_eq!(
            listed(Some("claude-sonnet-4.6"), false).unwrap(),
            ["claude-sonnet-4-6"]
        );
        assert_eq!(
            listed(Some("moonshotai/kimi-k3.1-pro-h"), false).unwrap(),
            ["kimi-k3.1-pro-highspeed"]
        );
    }

    #[test]
    fn an_unknown_name_fails_and_suggests() {
        let failure = listed(Some("kimi-k4"), false).unwrap_err();
        assert_eq!((failure.exit, failure.kind), (Exit::Failed, "models"));
        assert!(failure.hints[0].contains("`kimi-k3`"), "{failure:?}");
        let failure = listed(Some("zzzzzz"), false).unwrap_err();
        assert_eq!(failure.hints, ["`omk models` lists them all"]);
    }

    #[test]
    fn the_table_of_the_builtin_rows_fits_a_terminal() {
        let catalog = Catalog::builtin();
        let current = |model: &&Model| model.status != Status::Retired;
        let models: Vec<&Model> = catalog.models().iter().filter(current).collect();
        for line in table(&models).render().lines() {
            assert!(line.chars().count() <= 100, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn the_table_shows_tiers_plans_ends_and_what_is_not_known() {
        let catalog = Catalog::builtin();
        let models: Vec<&Model> = ["gpt-5.5", "k3", "kimi-k2.6", "claude-opus-5-5"]
            .iter()
            .map(|name| catalog.find(name).unwrap())
            .collect();
        assert_eq!(
            table(&models).render(),
            "model           provider        window vocabulary  input cached write output as of
gpt-5.5         openai         1050000 o200k_base      5    0.5     -     30 2026-07-02
  above 272000                                        10      1     -     45
k3              kimi-code-plan 1048576 kimi         plan   plan  plan   plan 2026-09-20
kimi-k2.6       moonshotai      262144 kimi         0.95   0.16     -      4 2026-07-02
  deprecated, ends 2026-12-31
claude-opus-5-5 anthropic            - ~o200k_base     4    0.2     5     20 2026-10-03
"
        );
    }
}
