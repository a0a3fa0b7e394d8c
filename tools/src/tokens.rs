//! Cuts Rust source into tokens, so that a checker sees neither comments nor string literals as code.
//!
//! It is not a parser: it knows no more of the grammar than where a token ends, and keeps going on source that does
//! not compile.

/// A piece of source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// The source itself; of `r#type`, `type`.
    pub(crate) text: &'a str,
    /// The line that it starts on, from 1.
    pub(crate) line: usize,
}

/// The kinds of token that the checkers tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Word,
    /// One character of punctuation.
    Mark,
    /// A string, character or number.
    Literal,
    /// `'a`.
    Lifetime,
    /// A comment about what encloses it: `//!`, `/*!`.
    InnerDoc,
    /// Any other comment.
    Comment,
}

impl Token<'_> {
    /// Whether this is the name or keyword `text`.
    pub(crate) fn is_word(&self, text: &str) -> bool {
        self.kind == Kind::Word && self.text == text
    }

    /// Whether this is the punctuation `text`.
    pub(crate) fn is_mark(&self, text: &str) -> bool {
        self.kind == Kind::Mark && self.text == text
    }

    /// Whether this is a comment of any kind.
    pub(crate) fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::Comment | Kind::InnerDoc)
    }
}

/// All tokens of `source`, with comments.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut rest = source;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (kind, length) = if first.is_whitespace() { (None, first.len_utf8()) } else { next(rest, first) };
        let (text, after) = rest.split_at(length.min(rest.len()));
        if let Some(kind) = kind {
            let text = if kind == Kind::Word { text.trim_start_matches("r#") } else { text };
            tokens.push(Token { kind, text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// All tokens of `source` that are code.
pub(crate) fn code(source: &str) -> Vec<Token<'_>> {
    tokens(source).into_iter().filter(|token| !token.is_comment()).collect()
}

/// The index of the mark that closes the one at `open`, or of the end.
pub(crate) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Mark {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len()
}

/// The kind and the length in bytes of the token at the start of `rest`.
fn next(rest: &str, first: char) -> (Option<Kind>, usize) {
    let (kind, length) = if rest.starts_with("//") {
        let length = rest.find('\n').unwrap_or(rest.len());
        (if rest.starts_with("//!") { Kind::InnerDoc } else { Kind::Comment }, length)
    } else if rest.starts_with("/*") {
        (if rest.starts_with("/*!") { Kind::InnerDoc } else { Kind::Comment }, block_comment(rest))
    } else if first == '"' {
        (Kind::Literal, quoted(rest, '"'))
    } else if first == '\'' {
        character_or_lifetime(rest)
    } else if first.is_ascii_digit() {
        (Kind::Literal, word(rest))
    } else if is_part_of_word(first) {
        word_or_prefixed_literal(rest)
    } else {
        (Kind::Mark, first.len_utf8())
    };
    (Some(kind), length)
}

fn word_or_prefixed_literal(rest: &str) -> (Kind, usize) {
    let length = word(rest);
    let (prefix, after) = rest.split_at(length);
    let hashes = after.len() - after.trim_start_matches('#').len();
    let is_raw = matches!(prefix, "r" | "br" | "cr");
    if is_raw && after[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = &after[hashes + 1..];
        let text = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        (Kind::Literal, length + hashes + 1 + text)
    } else if prefix == "r" && hashes == 1 && after[1..].starts_with(is_part_of_word) {
        (Kind::Word, length + 1 + word(&after[1..]))
    } else if matches!(prefix, "b" | "c") && after.starts_with('"') {
        (Kind::Literal, length + quoted(after, '"'))
    } else if prefix == "b" && after.starts_with('\'') {
        (Kind::Literal, length + quoted(after, '\''))
    } else {
        (Kind::Word, length)
    }
}

fn character_or_lifetime(rest: &str) -> (Kind, usize) {
    let mut characters = rest.chars().skip(1);
    let (first, second) = (characters.next(), characters.next());
    if first == Some('\\') || second == Some('\'') { (Kind::Literal, quoted(rest, '\'')) } else { (Kind::Lifetime, 1 + word(&rest[1..])) }
}

fn word(rest: &str) -> usize {
    rest.find(|character| !is_part_of_word(character)).unwrap_or(rest.len())
}

fn is_part_of_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// The length of a literal that starts with a quote, with its end.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return index + character.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a block comment, with those inside of it.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = r##"//! std::fs
            /* std::fs /* nested */ std::fs */ let a = "std::fs \" std::fs"; let b = r#"std::"fs"#;
            let c = b"fs"; let d = '"'; let e = '\''; let f = b'\''; let g = c"fs"; // std::fs"##;
        let words: Vec<_> = code(source).iter().filter(|t| t.kind == Kind::Word).map(|t| t.text).collect();
        assert_eq!(words, ["let", "a", "let", "b", "let", "c", "let", "d", "let", "e", "let", "f", "let", "g"]);
    }

    #[test]
    fn lifetimes_are_not_the_start_of_a_character() {
        use Kind::{Lifetime, Literal, Mark, Word};

        let kinds: Vec<_> = code("&'a str, 'static, 'b'").iter().map(|t| t.kind).collect();
        assert_eq!(kinds, [Mark, Lifetime, Word, Mark, Lifetime, Mark, Literal]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = "/* 1\n2 */ \"3\n\" é\n r#match";
        let found: Vec<_> = code(source).iter().map(|t| (t.text, t.line)).collect();
        assert_eq!(found, [("\"3\n\"", 2), ("é", 3), ("match", 4)]);
    }

    #[test]
    fn source_that_ends_too_early_is_read_to_its_end() {
        for source in ["\"abc", "/* abc", "r#\"abc", "'", "b'", "'\\", "r#"] {
            assert!(!tokens(source).is_empty(), "{source}");
        }
    }

    #[test]
    fn the_closing_mark_is_the_one_of_the_same_depth() {
        let tokens = code("a { b ( c ) } d }");
        assert_eq!(closing(&tokens, 1), 6);
        assert_eq!(closing(&code("{ ( "), 0), 2);
    }
}
