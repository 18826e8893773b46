//! The builtin rows held to their own rules, and bills worked out by hand.

use std::collections::HashSet;

use super::*;
use crate::runtime::clock;

fn counts(input_uncached: u64, cache_read: u64, cache_write: u64, output: u64) -> TokenCounts {
    TokenCounts {
        input_uncached,
        cache_read,
        cache_write,
        output,
    }
}

#[test]
fn the_builtin_text_reads() {
    serde_json::from_str::<Vec<BuiltinRow>>(BUILTIN).unwrap();
    let catalog = Catalog::builtin();
    let of = |provider: &str| {
        catalog
            .models()
            .iter()
            .filter(|m| m.provider == provider)
            .count()
    };
    assert_eq!((of("moonshotai"), of("kimi-code-plan")), (21, 5));
    assert!(catalog.models().len() - 26 >= 45);
}

#[test]
fn a_row_is_found_alone_as_it_is_among_all() {
    // Whole rows are compared by what they show.
    let shown = |model: Option<&Model>| model.map(|model| format!("{model:?}"));
    let alone = |name: &str| shown(Some(&*Catalog::builtin().resolve(name)));
    let all = Catalog::builtin();
    for model in all.models() {
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            assert_eq!(shown(builtin_row(name).as_ref()), shown(Some(model)));
            for name in [name, &*name.to_lowercase(), &*name.to_uppercase()] {
                assert_eq!(alone(name), shown(Some(model)));
            }
        }
    }
    // Words of the text that are no names, and names of nothing.
    for name in [
        "moonshotai",
        "kimi",
        "model",
        "",
        "\"",
        "\n",
        "kimi-k3\"",
        "no-such-model",
    ] {
        assert_eq!(
            shown(builtin_row(name).as_ref()),
            shown(all.find(name)),
            "{name:?}"
        );
        assert_eq!(alone(name), shown(Some(&*all.resolve(name))));
    }
    assert_eq!(alone("moonshotai/kimi-k3"), shown(all.find("kimi-k3")));
    assert!(Catalog::default().models().is_empty());
}

#[test]
fn every_row_is_dated_sourced_and_unique() {
    let catalog = Catalog::builtin();
    let mut names = HashSet::new();
    for model in catalog.models() {
        let id = &model.id;
        for name in std::iter::once(id).chain(&model.aliases) {
            assert!(names.insert(name.to_lowercase()), "{name} appears twice");
        }
        assert!(
            clock::is_date_or_month(&model.as_of),
            "{id}: as_of {}",
            model.as_of
        );
        assert!(
            model
                .ends
                .as_ref()
                .is_none_or(|d| clock::is_date_or_month(d)),
            "{id}"
        );
        assert!(
            !model.source.is_empty() && model.source.len() < 120,
            "{id}: {}",
            model.source
        );
        assert!(
            model.price.is_some() || model.note.is_some(),
            "{id}: no price and no word why"
        );
        assert!(
            model.status != Status::Retired || model.ends.is_some() || model.note.is_some(),
            "{id}"
        );
        if model.billing == Billing::Subscription {
            assert!(
                model.price.is_none(),
                "{id}: a flat fee is no price of nothing"
            );
        }
        if let Some(price) = &model.price {
            assert!(
                price.rates().input > Rate::from_usd(0) && price.rates().output > Rate::from_usd(0),
                "{id}"
            );
            let mut above = 0;
            for tier in price.tiers() {
                assert!(tier.above > above, "{id}");
                above = tier.above;
                assert_eq!(
                    tier.rates.cached_input.is_some(),
                    price.rates().cached_input.is_some(),
                    "{id}"
                );
            }
        }
    }
}

#[test]
fn kimi_is_exact_and_the_others_say_so_when_they_are_not() {
    for model in Catalog::builtin().models() {
        let id = &model.id;
        match &*model.provider {
            "moonshotai" | "kimi-code-plan" => {
                assert!(model.exact && model.vocabulary == Vocabulary::Kimi, "{id}");
            }
            "openai" => {
                assert_eq!((model.vocabulary, model.exact), vocabulary_for(id), "{id}");
            }
            _ => assert!(!model.exact, "{id}"),
        }
    }
}

#[test]
fn names_are_found_exactly_or_not_at_all() {
    let catalog = Catalog::builtin();
    let found = |name: &str| catalog.find(name).map(|m| m.id.to_string());
    assert_eq!(found("kimi-k3").as_deref(), Some("kimi-k3"));
    assert_eq!(found("KIMI-K3").as_deref(), Some("kimi-k3"));
    assert_eq!(found("moonshotai/kimi-k3").as_deref(), Some("kimi-k3"));
    assert_eq!(
        found("claude-sonnet-4.6").as_deref(),
        Some("claude-sonnet-4-6")
    );
    assert_eq!(found("minimax-m3").as_deref(), Some("MiniMax-M3"));
    for no in [
        "kimi-k",
        "kimi-k33",
        "kimi-k3 ",
        "openai/kimi-k3",
        "/kimi-k3",
        "",
        "gpt-5.2-pro",
        "gpt-4.1-2025-04-14",
    ] {
        assert_eq!(found(no), None, "{no}");
    }
    assert_eq!(catalog.suggest("kimi-k4").first(), Some(&"kimi-k3"));
    assert!(
        catalog
            .suggest("moonshotai/kimi-k3.1")
            .contains(&"kimi-k3.1-pro")
    );
    assert!(catalog.suggest("zzzzzzzzzz").is_empty());
}

#[test]
fn an_unknown_name_has_a_vocabulary_but_no_price() {
    let catalog = Catalog::builtin();
    for (name, vocabulary, exact, template) in [
        ("kimi-k9-preview", Vocabulary::Kimi, true, Template::Kimi),
        ("kimi-k3.5", Vocabulary::Kimi, true, Template::KimiK3),
        (
            "moonshotai/moonshot-v2",
            Vocabulary::Kimi,
            true,
            Template::Kimi,
        ),
        (
            "gpt-5.9-turbo",
            Vocabulary::O200k,
            true,
            Template::OpenAiChat,
        ),
        ("o3-pro", Vocabulary::O200k, true, Template::OpenAiChat),
        ("gpt-4-0314", Vocabulary::Cl100k, true, Template::OpenAiChat),
        (
            "ft:gpt-3.5-turbo:acme::x",
            Vocabulary::Cl100k,
            true,
            Template::OpenAiChat,
        ),
        ("babbage-002", Vocabulary::Cl100k, true, Template::None),
        (
            "text-embedding-3-small",
            Vocabulary::Cl100k,
            true,
            Template::None,
        ),
        (
            "gpt-3.5-turbo-instruct",
            Vocabulary::Cl100k,
            true,
            Template::None,
        ),
        ("code-davinci-002", Vocabulary::P50k, true, Template::None),
        ("curie", Vocabulary::R50k, true, Template::None),
        ("davinci-codex", Vocabulary::P50k, true, Template::None),
        (
            "davinci-house-blend",
            Vocabulary::O200k,
            false,
            Template::None,
        ),
        ("gpt-6-nova", Vocabulary::O200k, false, Template::None),
        ("o300", Vocabulary::O200k, false, Template::None),
        ("llama-4", Vocabulary::O200k, false, Template::None),
    ] {
        let model = catalog.resolve(name);
        assert_eq!(
            (model.vocabulary, model.exact, model.template),
            (vocabulary, exact, template),
            "{name}"
        );
        assert!(model.price.is_none() && model.id == name);
    }
}

/// Each line: tokens times listed rate, added up by hand in exact decimals.
#[test]
fn known_bills() {
    let catalog = Catalog::builtin();
    for (name, tokens, total) in [
        // 1241 * 3.00 = 3723 millionths.
        ("kimi-k3", counts(1_241, 0, 0, 0), "0.003723"),
        // 2000*3 + 8000*0.3 + 500*15 = 6000 + 2400 + 7500.
        ("kimi-k3", counts(2_000, 8_000, 0, 500), "0.0159"),
        // 100*3 + 700*3 (cache write) + 10*15.
        ("kimi-k3", counts(100, 0, 700, 10), "0.00255"),
        // 1*2 + 1*0.2 + 1*10.
        ("kimi-k3.1-pro", counts(1, 1, 0, 1), "0.0000122"),
        // 12345*0.95 + 678*0.19 + 90*4 = 11727.75 + 128.82 + 360.
        ("kimi-k2.7-code", counts(12_345, 678, 0, 90), "0.01221657"),
        // 7*0.95 + 3*0.16 + 11*4 = 6.65 + 0.48 + 44.
        ("kimi-k2.6", counts(7, 3, 0, 11), "0.00005113"),
        // Tier by length: 8192 at 0.20, one more at 1.00; 100 answered at 2 and at 3.
        ("moonshot-v1-auto", counts(8_192, 0, 0, 100), "0.0018384"),
        ("moonshot-v1-auto", counts(8_193, 0, 0, 100), "0.008493"),
        ("moonshot-v1-auto", counts(32_769, 0, 0, 0), "0.065538"),
        // At the border 272000*5 + 1000*30; above it all at 10 and 45, cached at 1.
        ("gpt-5.5", counts(272_000, 0, 0, 1_000), "1.39"),
        ("gpt-5.5", counts(272_001, 0, 0, 1_000), "2.76501"),
        ("gpt-5.5", counts(200_000, 100_000, 0, 1_000), "2.145"),
        // 999999*0.05 + 1*0.005 = 49999.95 + 0.005.
        ("gpt-5-nano", counts(999_999, 1, 0, 0), "0.049999955"),
        // 1000*3 + 2000*0.3 + 4000*3.75 + 100*15 = 3000 + 600 + 15000 + 1500.
        (
            "claude-sonnet-5",
            counts(1_000, 2_000, 4_000, 100),
            "0.0201",
        ),
        // 123457 cached tokens at 0.003625 = 447.531625 millionths.
        (
            "deepseek-v4-pro",
            counts(0, 123_457, 0, 0),
            "0.000447531625",
        ),
        // One cached token at 0.003625: 3.625 billionths.
        ("deepseek-v4-pro", counts(0, 1, 0, 0), "0.000000003625"),
        // Above 200000: 200000*2.5 + 1*0.25 + 10*15.
        ("gemini-2.5-pro", counts(200_000, 1, 0, 10), "0.50015025"),
        ("gpt-4", counts(8_000, 0, 0, 192), "0.25152"),
        ("kimi-k3", counts(0, 0, 0, 0), "0"),
    ] {
        let bill = catalog
            .find(name)
            .unwrap()
            .price
            .as_ref()
            .unwrap()
            .cost(&tokens);
        assert_eq!(bill.total().exact_decimal(), total, "{name} {tokens:?}");
        assert!(
            !bill.cache_read_rate_unknown && !bill.cache_write_rate_unknown,
            "{name}"
        );
    }
}

#[test]
fn an_unlisted_rate_is_billed_in_full_and_reported() {
    let catalog = Catalog::builtin();
    let price = |name: &str| catalog.find(name).unwrap().price.clone().unwrap();
    let bill = price("moonshot-v1-8k").cost(&counts(10, 90, 0, 0));
    assert!(bill.cache_read_rate_unknown && !bill.cache_write_rate_unknown);
    assert_eq!(bill.total().exact_decimal(), "0.00002");
    let bill = price("gpt-5").cost(&counts(0, 0, 8, 0));
    assert!(bill.cache_write_rate_unknown && !bill.cache_read_rate_unknown);
    assert_eq!(bill.total().exact_decimal(), "0.00001");
    assert_eq!(bill.tier_above, None);
}

#[test]
fn the_largest_bill_does_not_overflow() {
    let rates = Rates {
        input: Rate::MAX,
        cached_input: None,
        cache_write: None,
        cache_write_1h: None,
        output: Rate::MAX,
    };
    let bill = Price::new(rates, Vec::new()).cost(&counts(u64::MAX, u64::MAX, u64::MAX, u64::MAX));
    assert_eq!(
        bill.total().exact_decimal(),
        (4 * u128::from(u64::MAX)).to_string()
    );
}

#[test]
fn a_price_from_the_command_line_is_in_force_at_once() {
    let mut catalog = Catalog::builtin();
    let price = price_file::parse_price_flag("1,0.1,2").unwrap();
    catalog.set_price("k3", price.clone());
    catalog.set_price("my-model", price.clone());
    for name in ["k3", "my-model"] {
        let model = catalog.find(name).unwrap();
        assert_eq!(model.price, Some(price.clone()));
        assert_eq!(
            (&model.origin, model.billing),
            (&Origin::Flag, Billing::Metered)
        );
    }
    assert_eq!(catalog.find("k3").unwrap().vocabulary, Vocabulary::Kimi);
}

/// Prints the figure and judges nothing: run it with `--release -- --nocapture`.
#[test]
fn time_to_read_the_builtin_rows() {
    let rounds = 200;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(Catalog::builtin());
    }
    println!("builtin catalog: {:?} a read", start.elapsed() / rounds);
}

/// The rate of the prompt that a host charges for a model.
fn input_at(catalog: &Catalog, name: &str, host: &str) -> Option<String> {
    let model = catalog.resolve_at(name, host);
    let price = model.price.as_ref()?;
    let input = price.rates().input.exact_decimal();
    Some(format!("{input} {}", price.currency()))
}

#[test]
fn a_price_is_that_of_the_provider_who_bills() {
    let mut catalog = Catalog::builtin();
    let at = |catalog: &Catalog, name, host| input_at(catalog, name, host);
    let some = |text: &str| Some(text.to_string());
    for host in ["api.moonshot.ai", "127.0.0.1:80", "gateway.example"] {
        assert_eq!(at(&catalog, "kimi-k3", host), some("3 USD"), "{host}");
    }
    // Another provider has its own price, and none is made up.
    for (name, host) in [
        ("kimi-k3", "openrouter.ai"),
        ("moonshotai/kimi-k3", "openrouter.ai"),
        ("gpt-4o", "api.moonshot.ai"),
        ("kimi-k2.6", "api.moonshot.cn"),
    ] {
        assert_eq!(at(&catalog, name, host), None, "{name} {host}");
        assert_eq!(
            catalog.resolve_at(name, host).vocabulary,
            catalog.resolve(name).vocabulary
        );
    }
    // Mainland China is billed in CNY.
    assert_eq!(at(&catalog, "kimi-k3", "api.moonshot.cn"), some("20 CNY"));
    let file = r#"[
        {"model": "moonshotai/kimi-k3", "host": "openrouter.ai", "input": 2.1, "output": 9},
        {"model": "kimi-k2.6", "host": "api.moonshot.cn", "currency": "cny", "input": 7, "output": 28},
        {"model": "kimi-k3", "host": "gateway.example", "input": 1, "output": 2}
    ]"#;
    catalog.apply(&PriceFile::parse(file.as_bytes(), Path::new("p.json")).unwrap());
    assert_eq!(
        at(&catalog, "moonshotai/kimi-k3", "OpenRouter.ai"),
        some("2.1 USD")
    );
    assert_eq!(at(&catalog, "kimi-k3", "openrouter.ai"), None);
    assert_eq!(at(&catalog, "kimi-k2.6", "api.moonshot.cn"), some("7 CNY"));
    assert_eq!(
        at(&catalog, "kimi-k3", "gateway.example:8443"),
        some("1 USD")
    );
    assert_eq!(at(&catalog, "kimi-k3", "api.moonshot.ai"), some("3 USD"));
    // A list price is an assumption only where the provider is not known.
    for (host, is_assumed) in [
        ("other.example", true),
        ("gateway.example", false),
        ("api.moonshot.ai", false),
        ("localhost", false),
    ] {
        let model = catalog.resolve_at("kimi-k3", host);
        assert_eq!(Catalog::is_assumed(&model, host), is_assumed, "{host}");
    }
    // What the user gives is in the currency of whoever bills.
    catalog.set_price(
        "kimi-k3",
        Price::new(
            *catalog.resolve("kimi-k3").price.as_ref().unwrap().rates(),
            Vec::new(),
        ),
    );
    assert_eq!(at(&catalog, "kimi-k3", "openrouter.ai"), some("3 USD"));
    assert_eq!(at(&catalog, "kimi-k3", "api.moonshot.cn"), some("3 CNY"));
}

#[test]
fn the_prices_of_single_hosts_are_sound() {
    let hosted = PriceFile::parse(HOSTED.as_bytes(), Path::new("builtin")).unwrap();
    assert!(
        hosted
            .rows()
            .iter()
            .all(|row| row.host.is_some() && row.price.is_some())
    );
}
