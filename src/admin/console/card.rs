//! A model card as a part of a page: its Markdown with headings, lists and tables. Markup in it is text, links are their words:
//! whoever writes a card writes into the console of others, and gets neither a script nor a way out of it.

use crate::domain::printable;
use maud::Markup;
use maud::PreEscaped;
use pulldown_cmark::Alignment;
use pulldown_cmark::CodeBlockKind;
use pulldown_cmark::Event;
use pulldown_cmark::HeadingLevel;
use pulldown_cmark::Options;
use pulldown_cmark::Parser;
use pulldown_cmark::Tag;
use pulldown_cmark::TagEnd;
use pulldown_cmark::html::push_html;

/// Around a table, which may be wider than the page.
const TABLE: &str =
    r#"<div class="scroll" tabindex="0" role="region" aria-label="Table of the model card">"#;

/// The card, below a heading of the second level.
pub(super) fn card(text: &str) -> Markup {
    // What acts on a page without being markup, such as directions.
    let text = printable::lines(text);
    let events = Parser::new_ext(&text, Options::ENABLE_TABLES).flat_map(shown);
    let mut page = String::new();
    push_html(&mut page, events);
    PreEscaped(page)
}

/// What becomes of a part.
fn shown(event: Event<'_>) -> Vec<Event<'_>> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => vec![Event::Text(text)],
        Event::Start(Tag::HtmlBlock) => vec![Event::Start(Tag::Paragraph)],
        Event::End(TagEnd::HtmlBlock) => vec![Event::End(TagEnd::Paragraph)],
        Event::Start(Tag::Link { .. } | Tag::Image { .. })
        | Event::End(TagEnd::Link | TagEnd::Image) => Vec::new(),
        Event::Start(Tag::Heading { level, .. }) => vec![Event::Start(Tag::Heading {
            level: below(level),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        })],
        Event::End(TagEnd::Heading(level)) => vec![Event::End(TagEnd::Heading(below(level)))],
        // The name of a language would be a class, or several.
        Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => {
            vec![Event::Start(Tag::CodeBlock(CodeBlockKind::Indented))]
        }
        // Alignment would be style in the page, which its policy forbids.
        Event::Start(Tag::Table(columns)) => vec![
            Event::Html(TABLE.into()),
            Event::Start(Tag::Table(vec![Alignment::None; columns.len()])),
        ],
        Event::End(TagEnd::Table) => {
            vec![Event::End(TagEnd::Table), Event::Html("</div>\n".into())]
        }
        other => vec![other],
    }
}

/// The card's title is a section of the page.
fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_reads_well_and_does_nothing() {
        let text = "# Card\n\n**What** it [is](https://evil.example \"t\"): `x < y`, a_b.\n\n## Figures\n\n| a | b |\n| --- | ---: |\n\
                    | one | <script>alert(1)</script> |\n\n- first\n- ![image](https://evil.example/x.png)\n";
        let page = card(text).into_string();
        for part in [
            "<h3>Card</h3>",
            "<h4>Figures</h4>",
            "<strong>What</strong> it is: <code>x &lt; y</code>",
            "<th>b</th>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "<li>first</li>",
            "<li>image</li>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(
            !page.contains("evil.example") && !page.contains("style="),
            "{page}"
        );
    }

    #[test]
    fn what_is_hostile_in_a_card_is_text() {
        for text in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "x <b onclick=\"alert(1)\">y</b>",
            "<!-- <script>alert(1)</script> -->",
            "<style>*{display:none}</style>\n\n<iframe src=//evil.example>",
            "[x](javascript:alert(1))",
            "<javascript:alert(1)>",
            "![x](javascript:alert(1))",
            "[x]: javascript:alert(1)\n\n[x]",
            "# x {#id onclick=alert(1)}",
            "```\" onclick=\"alert(1)\n<script>\n```",
            "```x\tskip&#9;notice\ny\n```",
            "| <script> |\n| --- |\n| \" onmouseover=\"alert(1) |",
            "</div></main><script>alert(1)</script>",
            "<?php x ?>\n\n<![CDATA[<script>]]>",
        ] {
            let page = card(text).into_string();
            for tag in page.split('<').skip(1) {
                let tag = tag.split('>').next().unwrap_or_default();
                let is_plain = tag
                    .trim_start_matches('/')
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == ' ');
                let is_ours = TABLE[1..].starts_with(tag) && !tag.is_empty();
                assert!(is_plain || is_ours, "{text}: <{tag}> in {page}");
            }
            for bad in ["<script", "<img", "<style", "<iframe", "<a ", "href"] {
                assert!(!page.contains(bad), "{text}: {page}");
            }
        }
        let page = card("a\u{202e}b\u{1b}[31m").into_string();
        assert!(
            page.contains("u{202e}") && !page.contains('\u{202e}') && !page.contains('\u{1b}'),
            "{page}"
        );
        // Depth costs no stack.
        let deep = card(&"> ".repeat(20_000)).into_string();
        assert!(deep.contains("blockquote"));
    }

    #[test]
    fn the_shipped_card_is_shown_as_a_whole() {
        let page = card(include_str!("../../../conf/model/CARD.md")).into_string();
        for part in [
            "Model card: risk models",
            "What they do not do.",
            "<table>",
            "returning user, known cookie",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("| ---"), "{page}");
    }
}
