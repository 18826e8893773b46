//! The first code block of an answer.

/// The lines between the first fence and the one that closes it, or the end of the text where none does.
pub(super) fn first_block(text: &str) -> Option<&str> {
    let mut open: Option<(&str, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start_matches(' ').len();
        match open {
            None if indent <= 3 => {
                let fence = fence(trimmed);
                // The language after backticks has no backtick in it: otherwise it is code within a line.
                let after = trimmed.get(fence.len()..).unwrap_or_default();
                if !fence.is_empty() && !after.contains('`') {
                    open = Some((fence, at));
                }
            }
            Some((fence_of, from)) if indent <= 3 => {
                let end = fence(trimmed);
                if end.len() == trimmed.len()
                    && end.len() >= fence_of.len()
                    && end.get(..1) == fence_of.get(..1)
                {
                    return text.get(from..start);
                }
            }
            _ => {}
        }
    }
    open.and_then(|(_, from)| text.get(from..))
}

/// The three or more backticks or tildes that a line begins with.
fn fence(line: &str) -> &str {
    for mark in ['`', '~'] {
        let rest = line.trim_start_matches(mark);
        let length = line.len() - rest.len();
        if length >= 3 {
            return line.get(..length).unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::first_block;

    #[test]
    fn the_first_block_is_found() {
        for (text, block) in [
            (
                "Here:\n```rust\nfn f() {}\n```\nand\n```\nx\n```\n",
                Some("fn f() {}\n"),
            ),
            ("~~~\na\n```\nb\n~~~~\n", Some("a\n```\nb\n")),
            ("````md\n```\nx\n```\n````", Some("```\nx\n```\n")),
            ("```\n```\n", Some("")),
            ("```\ncut off", Some("cut off")),
            ("  ```sh\n  ls\n  ```", Some("  ls\n")),
            ("``` not code ``` on one line\n", None),
            ("    ```\n    indented\n", None),
            ("no code", None),
            ("", None),
        ] {
            assert_eq!(first_block(text), block, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_stands_in_a_fence_is_found(lines in proptest::collection::vec("[a-z ]{0,8}", 0..6), before in "[a-z \n]{0,20}") {
            let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let text = format!("{before}\n```x\n{body}```\nafter\n");
            prop_assert_eq!(first_block(&text), Some(body.as_str()));
        }

        #[test]
        fn no_text_panics(text in "[`~\\n a\u{e9}]{0,40}") {
            let _ = first_block(&text);
        }
    }
}
