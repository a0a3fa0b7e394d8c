//! `If-None-Match` (RFC 9110 §13.1.2): what a client has already need not be sent.
//!
//! Not here: what comes after it, as `Range` does (§13.2.2); see [`super::range`].

/// Whether the header names the entity tag `tag`, which is given without its quotes; compared weakly, so that `W/` means
/// nothing (§8.8.3.2). What cannot be read ends the list.
pub fn names(header: &str, tag: &str) -> bool {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut rest = header.trim_matches(BLANK);
    if rest == "*" {
        return true;
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((found, after)) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"').and_then(|open| open.split_once('"')) else {
            return false;
        };
        if found == tag {
            return true;
        }
        rest = after.trim_start_matches(BLANK);
        if !rest.starts_with(',') {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_alone_in_a_list_weak_or_as_any() {
        for header in
            ["\"a\"", " \"a\" ", "W/\"a\"", "*", "\"b\", \"a\"", "\"b\",W/\"a\"", ", ,\"b\"\t,\t\"a\",", "\"b,c\",\"a\"", "\"\",\"a\" x"]
        {
            assert!(names(header, "a"), "{header}");
        }
    }

    #[test]
    fn another_tag_or_what_is_no_list_of_tags_names_nothing() {
        for header in [
            "",
            "a",
            "\"b\"",
            "\"a",
            "a\"",
            "w/\"a\"",
            "W/ \"a\"",
            "\"b\" \"a\"",
            "\"b\";\"a\"",
            "x,\"a\"",
            "\"b, \"a\"",
            "*, \"b\"",
            "\"*\"",
            "\"A\"",
        ] {
            assert!(!names(header, "a"), "{header}");
        }
    }
}
