//! The models in an agent's `config.toml`: the default, and what each name stands for.
//!
//! Both kimi-cli and Kimi Code write `default_model = "name"` and tables `[models.name]` with `model = "id"`. No more of TOML
//! than such lines is read: what is written in another way is unknown, not wrong.

/// The models that an agent is configured with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    default: Option<String>,
    /// Each name with the id at the service.
    models: Vec<(String, Option<String>)>,
}

impl Models {
    /// Those in the text of a `config.toml`.
    pub fn parse(text: &str) -> Models {
        let mut found = Models::default();
        // `None` before the first table, and then the name of a model or nothing of interest.
        let mut table: Option<Option<usize>> = None;
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                let name = header
                    .split_once(']')
                    .and_then(|(header, _)| header.trim().strip_prefix("models."));
                table = Some(name.map(|name| {
                    found.models.push((unquoted(name).to_string(), None));
                    found.models.len() - 1
                }));
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let Some(value) = string(value.trim()) else {
                continue;
            };
            match (table, key.trim()) {
                (None, "default_model") => found.default = Some(value.to_string()),
                (Some(Some(at)), "model") => {
                    if let Some((_, model)) = found.models.get_mut(at) {
                        *model = Some(value.to_string());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|(name, _)| name.as_str())
    }

    /// The id at the service of the model of that name, or of the default.
    pub fn id(&self, name: Option<&str>) -> Option<&str> {
        let name = name.or(self.default.as_deref())?;
        let (_, id) = self.models.iter().find(|(known, _)| known == name)?;
        id.as_deref()
    }
}

/// A string value, if it is a plain one: nothing escaped, and only a comment after it.
fn string(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inside, after) = value.strip_prefix(quote)?.split_once(quote)?;
    let ends = after.trim().is_empty() || after.trim_start().starts_with('#');
    (ends && !inside.contains('\\')).then_some(inside)
}

fn unquoted(name: &str) -> &str {
    string(name.trim()).unwrap_or(name.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_stand_for_another_model() {
        let models = Models::parse(
            "default_model = \"main\" # ours\n\n[models.main]\nprovider = \"p\"\nmodel = 'kimi-k3'\n\
             [models.\"kimi-k2.6\"]\nmodel = \"kimi-k3\"\n[models.odd]\nmodel = 3\n[providers.p]\nmodel = \"x\"\n",
        );
        assert_eq!(
            models.names().collect::<Vec<_>>(),
            ["main", "kimi-k2.6", "odd"]
        );
        assert_eq!(models.id(None), Some("kimi-k3"));
        assert_eq!(models.id(Some("kimi-k2.6")), Some("kimi-k3"));
        assert_eq!(models.id(Some("odd")), None);
        assert_eq!(models.id(Some("nosuch")), None);
        assert_eq!(Models::parse("[[").id(None), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[\\[\\]a-z.=\"'#\n ]{0,80}") {
            let models = Models::parse(&text);
            let _ = models.id(None);
        }
    }
}
