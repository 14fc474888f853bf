/**
 * Markdown as elements.
 *
 * What a model writes is hostile until shown otherwise, so no HTML is ever made from it: the tokens
 * of the parser become Preact elements, text stays text, and only links that lead to a web page or
 * an address are links. Pictures would tell another host who reads: they are shown as links.
 */

import MarkdownIt from "markdown-it";
import { h, type ComponentChildren, type VNode } from "preact";
import { useMemo } from "preact/hooks";

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true });
const MAX_DEPTH = 60; // of elements in elements; beyond, rendering would run out of stack
const MAX_TOKENS = 20_000; // a reply of more would be a page that nobody can scroll
const SAFE_LINK = /^(https?:|mailto:)/i;

const TAGS = new Set(
  "p ul ol li blockquote strong em s table thead tbody tr th td".split(" "),
);

type Token = ReturnType<typeof parser.parse>[number];

interface Open {
  make: (children: ComponentChildren[]) => VNode;
  children: ComponentChildren[];
}

export function Markdown({ text }: { text: string }) {
  const content = useMemo(() => shown(text), [text]);
  return <div class="prose">{content}</div>;
}

function shown(text: string): ComponentChildren[] {
  const tokens = parser.parse(text, {});
  const count = tokens.reduce((sum, token) => sum + 1 + (token.children?.length ?? 0), 0);
  return count > MAX_TOKENS ? [<p class="as-written">{text}</p>] : elements(tokens, 0);
}

/** Elements for tokens that are `depth` elements deep themselves. */
function elements(tokens: readonly Token[], depth: number): ComponentChildren[] {
  const root: Open = { make: (children) => <>{children}</>, children: [] };
  const stack = [root];
  let tooDeep = 0; // how many elements are open that are not made
  for (const token of tokens) {
    const top = stack.at(-1)!;
    if (token.nesting === 1) {
      if (depth + stack.length > MAX_DEPTH) tooDeep += 1;
      else stack.push({ make: maker(token), children: [] });
    } else if (token.nesting === -1) {
      if (tooDeep > 0) {
        tooDeep -= 1;
        continue;
      }
      if (stack.length === 1) continue;
      stack.pop();
      stack.at(-1)!.children.push(top.make(top.children));
    } else {
      top.children.push(leaf(token, depth + stack.length));
    }
  }
  return root.children;
}

function maker(token: Token): Open["make"] {
  if (token.type === "link_open") {
    const href = String(token.attrGet("href") ?? "");
    if (!SAFE_LINK.test(href)) return (children) => <span>{children}</span>;
    return (children) => link(href, children);
  }
  // Tight lists hide their paragraphs.
  if (token.hidden) return (children) => <>{children}</>;
  if (token.tag === "table") {
    return (children) => (
      <div class="scroll-x" tabIndex={0} role="group" aria-label="Table">
        <table>{children}</table>
      </div>
    );
  }
  // A reply's headings are not the page's: they would tear its outline.
  if (/^h\d$/.test(token.tag)) {
    return (children) => <p class={`heading heading-${token.tag[1]}`}>{children}</p>;
  }
  if (token.tag === "ol") {
    const start = Number(token.attrGet("start") ?? 1);
    return (children) => <ol start={start}>{children}</ol>;
  }
  if (TAGS.has(token.tag)) return (children) => h(token.tag, {}, children);
  return (children) => <>{children}</>;
}

function leaf(token: Token, depth: number): ComponentChildren {
  switch (token.type) {
    case "inline":
      return elements(token.children ?? [], depth);
    case "code_inline":
      return <code>{token.content}</code>;
    case "fence":
    case "code_block":
      return (
        <pre tabIndex={0} aria-label={token.info ? `Code, ${token.info}` : "Code"}>
          <code>{token.content}</code>
        </pre>
      );
    case "softbreak":
    case "hardbreak":
      return <br />;
    case "hr":
      return <hr />;
    case "image": {
      const source = String(token.attrGet("src") ?? "");
      const name = token.content || source;
      return SAFE_LINK.test(source) ? link(source, [`Picture: ${name}`]) : <span>{name}</span>;
    }
    default:
      return token.content;
  }
}

function link(href: string, children: ComponentChildren[]): VNode {
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}
