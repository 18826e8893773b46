//! Enums whose variants have one name each, the same in JSON, on the command line and in messages.

use std::fmt;

/// A text is not one of an enum's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord(String);

impl UnknownWord {
    /// For the enum that `what` names and the names that it has.
    pub(crate) fn new(what: &str, names: &[&str]) -> UnknownWord {
        UnknownWord(format!("{what}: expected one of {}", names.join(" ")))
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownWord {}

/// An enum that [`words!`] defined.
pub(crate) trait Word: Copy + 'static {
    /// Every value, in the order of the documentation.
    const ALL: &'static [Self];

    /// The name.
    fn name(self) -> &'static str;
}

/// Defines such an enum: `words! { /// Docs. Name, "what" { /// Docs. Variant = "name", } }`. It gets `ALL`, `name()`,
/// `Display`, `FromStr` and serde under its names; `what` begins the error of `FromStr`. It is public unless `pub(crate)`
/// stands before its name.
macro_rules! words {
    ($(#[$doc:meta])* pub(crate) $type:ident, $what:literal { $($variants:tt)+ }) => {
        $crate::runtime::words::words! { @define (pub(crate)) $(#[$doc])* $type, $what { $($variants)+ } }
    };
    ($(#[$doc:meta])* $type:ident, $what:literal { $($variants:tt)+ }) => {
        $crate::runtime::words::words! { @define (pub) $(#[$doc])* $type, $what { $($variants)+ } }
    };
    (
        @define ($vis:vis) $(#[$doc:meta])*
        $type:ident, $what:literal { $( $(#[$variant_doc:meta])* $variant:ident = $name:literal, )+ }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        $vis enum $type {
            $( $(#[$variant_doc])* #[serde(rename = $name)] $variant, )+
        }

        impl $type {
            /// Every value, in the order of the documentation.
            $vis const ALL: &'static [$type] = &[$( $type::$variant ),+];

            /// The name.
            $vis const fn name(self) -> &'static str {
                match self { $( $type::$variant => $name, )+ }
            }
        }

        impl $crate::runtime::words::Word for $type {
            const ALL: &'static [$type] = $type::ALL;

            fn name(self) -> &'static str {
                $type::name(self)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::runtime::words::UnknownWord;

            fn from_str(name: &str) -> Result<$type, Self::Err> {
                match name {
                    $( $name => Ok($type::$variant), )+
                    _ => Err($crate::runtime::words::UnknownWord::new($what, &[$( $name ),+])),
                }
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro defines public types")]
mod tests {
    words! {
        /// A direction.
        Way, "way" {
            /// Up.
            Up = "up",
            /// Down the stairs.
            DownStairs = "down-stairs",
        }
    }

    #[test]
    fn a_name_is_the_same_everywhere() {
        for way in Way::ALL {
            assert_eq!(way.name().parse(), Ok(*way));
            assert_eq!(way.to_string(), way.name());
            let json = serde_json::to_string(way).unwrap();
            assert_eq!(json, format!("\"{}\"", way.name()));
            assert_eq!(serde_json::from_str::<Way>(&json).unwrap(), *way);
        }
        assert_eq!(format!("{:>5}", Way::Up), "   up");
        assert_eq!(
            "Up".parse::<Way>().unwrap_err().to_string(),
            "way: expected one of up down-stairs"
        );
    }
}
