//! The rules of `.gitignore`: what is no part of a repository.
//!
//! Covered, as gitignore(5) has it: comments, blanks at the end, `!`, `\`, a `/` at the end for directories only, a `/`
//! elsewhere that anchors to the directory of the file, `**` as a whole part, `*`, `?` and `[...]` within one. The last rule
//! that matches decides, a file nearer to the path before one further up; what lies below an ignored directory cannot be
//! taken back. Not covered: rules above the work directory, `.git/info/exclude`, the user's own file, names of character
//! classes such as `[:alpha:]`. Matching takes no recursion, and time of at most pattern times path.

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Parts between slashes; a rule without an anchor begins with `**`.
    parts: Vec<Vec<char>>,
    directories_only: bool,
    /// Takes back what an earlier rule ignored.
    negated: bool,
}

/// The rules of one file, in its order.
pub(super) fn parse(text: &str) -> Vec<Rule> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .filter_map(rule)
        .collect()
}

fn rule(line: &str) -> Option<Rule> {
    let mut line = line.trim_end_matches('\r');
    // Blanks at the end do not count, but for one behind a backslash.
    while let Some(shorter) = line.strip_suffix(' ') {
        let slashes = shorter.len() - shorter.trim_end_matches('\\').len();
        if slashes % 2 == 1 {
            break;
        }
        line = shorter;
    }
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (negated, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (directories_only, line) = match line.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let anchored = line.contains('/');
    let line = line.strip_prefix('/').unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    let mut parts: Vec<Vec<char>> = line.split('/').map(|part| part.chars().collect()).collect();
    if !anchored {
        parts.insert(0, vec!['*', '*']);
    }
    Some(Rule {
        parts,
        directories_only,
        negated,
    })
}

/// What the rules of a file say of a path below its directory: ignored, taken back, or nothing.
pub(super) fn verdict(rules: &[Rule], path: &[&str], is_directory: bool) -> Option<bool> {
    let matching =
        |rule: &&Rule| (is_directory || !rule.directories_only) && matches(&rule.parts, path);
    rules.iter().rev().find(matching).map(|rule| !rule.negated)
}

/// Follows every place of the pattern that the path so far may have come to.
fn matches(pattern: &[Vec<char>], path: &[&str]) -> bool {
    let end = pattern.len();
    let is_any = |at: usize| {
        pattern
            .get(at)
            .is_some_and(|part| matches!(part.as_slice(), ['*', '*']))
    };
    let mut places = vec![false; end + 1];
    // `**` may stand for no part at all, except at the end, where it is everything inside.
    let enter = |places: &mut Vec<bool>, mut at: usize| {
        loop {
            if let Some(place) = places.get_mut(at) {
                *place = true;
            }
            if !is_any(at) || at + 1 >= end {
                break;
            }
            at += 1;
        }
    };
    enter(&mut places, 0);
    for name in path {
        let mut next = vec![false; end + 1];
        for at in 0..end {
            if !places.get(at).is_some_and(|place| *place) {
                continue;
            }
            if is_any(at) {
                enter(&mut next, at);
                if at + 1 == end {
                    enter(&mut next, end);
                }
            } else if pattern.get(at).is_some_and(|part| part_matches(part, name)) {
                enter(&mut next, at + 1);
            }
        }
        places = next;
    }
    places.last().is_some_and(|place| *place)
}

/// One part: on a mismatch the last `*` takes one character more.
fn part_matches(pattern: &[char], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), name.get(place)) {
            (None, None) => return true,
            (Some('*'), _) => {
                at += 1;
                star = Some((at, place));
                continue;
            }
            (Some(_), Some(c)) => {
                if let Some(length) = one_matches(pattern.get(at..).unwrap_or_default(), *c) {
                    at += length;
                    place += 1;
                    continue;
                }
            }
            _ => {}
        }
        match &mut star {
            Some((after, taken)) if *taken < name.len() => {
                *taken += 1;
                (at, place) = (*after, *taken);
            }
            _ => return false,
        }
    }
}

/// Whether the beginning of a pattern matches a character, and how much of the pattern that takes.
fn one_matches(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['[', rest @ ..] => match class_matches(rest, c) {
            Some((true, length)) => Some(1 + length),
            Some((false, _)) => None,
            // A bracket that does not end is one.
            None => (c == '[').then_some(1),
        },
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

/// Whether a class holds a character, and how long it is, the bracket at its end included; nothing if it does not end.
fn class_matches(class: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(class, ['!' | '^', ..]);
    let mut at = usize::from(negated);
    let mut holds = false;
    let mut first = true;
    loop {
        match class.get(at..)? {
            [']', ..] if !first => return Some((holds != negated, at + 1)),
            ['\\', low, ..] => {
                holds |= *low == c;
                at += 2;
            }
            [low, '-', high, ..] if *high != ']' => {
                holds |= (*low..=*high).contains(&c);
                at += 3;
            }
            [low, ..] => {
                holds |= *low == c;
                at += 1;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored(rules: &str, path: &str) -> Option<bool> {
        let is_directory = path.ends_with('/');
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        verdict(&parse(rules), &parts, is_directory)
    }

    /// Each line was held against `git check-ignore`.
    #[test]
    fn rules_mean_what_git_means() {
        for (rules, path, wanted) in [
            ("*.o", "a.o", Some(true)),
            ("*.o", "deep/down/a.o", Some(true)),
            ("*.o", "a.oo", None),
            ("/a", "a", Some(true)),
            ("/a", "b/a", None),
            ("a/b", "a/b", Some(true)),
            ("a/b", "c/a/b", None),
            ("target/", "target/", Some(true)),
            ("target/", "target", None),
            ("target/", "x/target/", Some(true)),
            ("**/a", "a", Some(true)),
            ("**/a", "b/c/a", Some(true)),
            ("a/**", "a/b/c", Some(true)),
            ("a/**", "a/", None),
            ("a/**/b", "a/b", Some(true)),
            ("a/**/b", "a/x/y/b", Some(true)),
            ("a/**/b", "a/x/y/c", None),
            ("*.log\n!keep.log", "keep.log", Some(false)),
            ("!keep.log\n*.log", "keep.log", Some(true)),
            ("# no\n\n   \n", "no", None),
            ("\\#yes", "#yes", Some(true)),
            ("\\!yes", "!yes", Some(true)),
            ("blank  ", "blank", Some(true)),
            ("blank\\ ", "blank ", Some(true)),
            ("a?c", "abc", Some(true)),
            ("a?c", "ac", None),
            ("[a-c]x", "bx", Some(true)),
            ("[!a-c]x", "bx", None),
            ("[^a-c]x", "dx", Some(true)),
            ("[]a]x", "]x", Some(true)),
            ("[a-]x", "-x", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "axb", None),
            ("a*b*c", "aXbYbZc", Some(true)),
            ("a**b", "aXXb", Some(true)),
            ("a**b", "a/b", None),
            ("/*", "x/", Some(true)),
            ("/*\n!/src", "src/", Some(false)),
            ("crlf\r\n", "crlf", Some(true)),
            ("\u{feff}bom", "bom", Some(true)),
            ("/", "a", None),
            ("größe/", "größe/", Some(true)),
        ] {
            assert_eq!(ignored(rules, path), wanted, "{rules:?} {path}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let stars = "*a".repeat(2_000);
        let name = "a".repeat(5_000) + "b";
        assert_eq!(ignored(&stars, &name), None);
        let deep = "**/a/".repeat(300) + "b";
        assert_eq!(ignored(&deep, &("a/".repeat(1_000) + "c")), None);
    }

    proptest! {
        #[test]
        fn any_rules_and_path(rules in "[\\[\\]!*?a-c/\\\\ #\n-]{0,30}|.{0,20}", path in "[a-c/]{1,12}") {
            let _ = ignored(&rules, &path);
        }

        #[test]
        fn a_name_ignores_itself(name in "[a-z]{1,8}", above in "([a-z]{1,3}/){0,3}") {
            prop_assert_eq!(ignored(&name, &format!("{above}{name}")), Some(true));
            prop_assert_eq!(ignored(&format!("/{above}{name}"), &format!("{above}{name}")), Some(true));
        }
    }
}
