"""The report's style sheet. Colours follow the reader's light or dark mode; contrast is at least 4.5 to 1."""

MOST_BOXES = 12
"""Of a group of boxes that filter."""

_FILTERS = "\n".join(
    f"body:has(#show-{kind}-{number}:not(:checked)) [data-{kind}='{number}'] {{ display:none; }}"
    for kind in ("level", "family", "split")
    for number in range(MOST_BOXES)
)

_STYLE = """
:root { color-scheme: light dark; --bg:#fff; --fg:#1c2024; --dim:#5b6470; --line:#d9dee3; --card:#f6f8fa;
  --error:#b42318; --warning:#8a5300; --note:#245bb5; --pass:#1a6b38; --bar:#4a7fd0; --on:#fff; }
@media (prefers-color-scheme: dark) { :root { --bg:#14171a; --fg:#e7eaed; --dim:#9da7b1; --line:#343b42;
  --card:#1d2227; --error:#ff8a80; --warning:#f2b84b; --note:#8ab8ff; --pass:#6fd08c; --bar:#6c9fe8;
  --on:#14171a; } }
* { box-sizing: border-box; }
body { margin:0 auto; padding:1rem; max-width:70rem; background:var(--bg); color:var(--fg);
  font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; overflow-wrap:anywhere; }
h1 { font-size:1.6rem; margin:.2rem 0; } h2 { font-size:1.25rem; margin:2rem 0 .6rem; }
h3 { font-size:1.05rem; margin:1.2rem 0 .4rem; } p { margin:.4rem 0; }
.verdict { border-left:.4rem solid; padding:.6rem 1rem; background:var(--card); border-radius:.3rem; }
.verdict strong { font-size:1.3rem; } .verdict.passed { border-color:var(--pass); }
.verdict.passed strong { color:var(--pass); } .verdict.failed { border-color:var(--error); }
.verdict.failed strong { color:var(--error); }
.level { display:inline-block; padding:0 .5rem; border-radius:1rem; color:var(--on); font-size:.85rem; }
.level.error { background:var(--error); } .level.warning { background:var(--warning); }
.level.note { background:var(--note); }
details { border:1px solid var(--line); border-radius:.3rem; padding:.4rem .8rem; margin:.5rem 0; }
summary { cursor:pointer; } summary:focus-visible, .scroll:focus-visible { outline:2px solid var(--note); }
.dim, figcaption small, .where { color:var(--dim); font-size:.875rem; }
li { margin:.4rem 0; } .scroll { overflow-x:auto; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; }
th, td { padding:.25rem .7rem; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap; }
th:first-child, td:first-child { text-align:left; padding-left:0; white-space:normal;
  overflow-wrap:break-word; min-width:6rem; }
.bar { display:inline-block; height:.7rem; background:var(--bar); border-radius:.15rem;
  min-width:1px; vertical-align:middle; }
td.chart { text-align:left; min-width:8rem; width:40%; }
.grid { display:grid; gap:1rem; grid-template-columns:repeat(auto-fill,minmax(min(18rem,100%),1fr)); }
figure { margin:0 0 1.2rem; } svg { display:block; width:100%; height:auto; } svg rect { fill:var(--bar); }
.strip { display:flex; gap:.3rem; overflow-x:auto; padding-bottom:.3rem; margin:.3rem 0; list-style:none;
  padding-left:0; }
.strip li { flex:none; margin:0; text-align:center; font-size:.75rem; color:var(--dim); }
.strip img { display:block; height:6rem; width:auto; } .strip .padding img { opacity:.4; }
.strip .lost { display:grid; place-items:center; height:6rem; width:8rem; border:1px dashed var(--error);
  color:var(--error); }
dl { display:grid; grid-template-columns:minmax(7rem,max-content) 1fr; gap:.2rem 1rem; margin:.4rem 0; }
dt { color:var(--dim); } dd { margin:0; } code { font-family:ui-monospace,Menlo,Consolas,monospace;
  font-size:.875rem; unicode-bidi:isolate; }
.filters { border:1px solid var(--line); border-radius:.3rem; margin:.5rem 0; padding:.2rem .8rem .4rem; }
.filters label { display:inline-block; margin-right:1rem; padding:.2rem 0; cursor:pointer; }
.filters input { width:1.1rem; height:1.1rem; vertical-align:middle; accent-color:var(--note); }
input:focus-visible, .strip:focus-visible { outline:2px solid var(--note); outline-offset:2px; }
.strip .meant { outline:3px solid var(--error); outline-offset:-3px; } .pair .meant { order:-1; }
.pair { border-left:.3rem solid var(--error); padding-left:.8rem; margin:1rem 0; display:grid; gap:0 1rem;
  grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr)); } .pair > p { grid-column:1/-1; }
.pair figure { min-width:0; margin-bottom:.4rem; }
.why { color:var(--warning); }
ul.passed { columns:22rem; padding-left:1.2rem; } ul.passed li { break-inside:avoid; margin:.2rem 0; }
figure details { border:0; padding:0; margin:.2rem 0; font-size:.8rem; color:var(--dim); }
@media print { details:not([open]) > :not(summary) { display:block; } .filters { display:none; } }
@media (max-width:32rem) { dl { grid-template-columns:1fr; gap:0; } dd { margin-bottom:.5rem; } }
"""

STYLE = _STYLE + _FILTERS
