"""The report's style sheet. Colours follow the reader's light or dark mode; text contrasts 4.5 to 1."""

STYLE = """
:root { color-scheme: light dark; --bg:#fff; --fg:#1c2024; --dim:#5b6470; --line:#d9dee3; --card:#f6f8fa;
  --good:#1a6b38; --bad:#b42318; --unsure:#8a5300; --bar:#4a7fd0; --link:#245bb5; --mark:#c2500a;
  --heat:74,127,208; }
@media (prefers-color-scheme: dark) { :root { --bg:#14171a; --fg:#e7eaed; --dim:#9da7b1; --line:#343b42;
  --card:#1d2227; --good:#6fd08c; --bad:#ff8a80; --unsure:#f2b84b; --bar:#6c9fe8; --link:#8ab8ff;
  --mark:#ff9d5c; --heat:70,120,210; } }
* { box-sizing: border-box; }
body { margin:0 auto; padding:1rem; max-width:70rem; background:var(--bg); color:var(--fg);
  font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; overflow-wrap:anywhere; }
h1 { font-size:1.6rem; margin:.2rem 0 .6rem; } h2 { font-size:1.35rem; margin:2.2rem 0 .4rem; }
h3 { font-size:1.1rem; margin:1.6rem 0 .4rem; } h4 { font-size:1rem; margin:1rem 0 .2rem; }
p { margin:.4rem 0; } nav { margin:.8rem 0; } nav a { margin-right:1rem; color:var(--link); }
.verdict, .warning { border-left:.4rem solid; padding:.6rem 1rem; background:var(--card);
border-radius:.3rem; } .warning { border-color:var(--unsure); margin:.5rem 0; }
.verdict strong { font-size:1.25rem; } .verdict.good { border-color:var(--good); }
.verdict.bad { border-color:var(--bad); } .verdict.unsure { border-color:var(--unsure); }
.good > strong, td.good { color:var(--good); } .bad > strong, td.bad { color:var(--bad); }
.unsure > strong, td.unsure { color:var(--unsure); }
.dim, figcaption small { color:var(--dim); font-size:.875rem; }
.scroll { overflow-x:auto; margin:.6rem 0; }
.scroll:focus-visible, .strip:focus-visible { outline:2px solid var(--bar); }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; }
caption { text-align:left; color:var(--dim); font-size:.875rem; padding-bottom:.3rem; }
th, td { padding:.25rem .7rem; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap; }
th:first-child { text-align:left; padding-left:0; white-space:normal; overflow-wrap:break-word;
  min-width:6rem; max-width:24rem; }
tbody th { font-weight:normal; }
td.chart { text-align:left; min-width:10rem; width:35%; }
.bar { display:inline-block; height:.7rem; background:var(--bar); border-radius:.15rem; min-width:1px;
  vertical-align:middle; }
.confusion td, .confusion th { padding:.25rem .4rem; } .confusion td { text-align:center; min-width:2.6rem;
} .confusion td.right { outline:1px solid var(--fg); outline-offset:-1px; }
.grid { display:grid; gap:0 1rem; grid-template-columns:repeat(auto-fill,minmax(min(21rem,100%),1fr)); }
figure { margin:0 0 1.2rem; } svg { display:block; width:100%; height:auto; max-width:34rem; }
svg text { fill:var(--dim); font-size:11px; } svg path { fill:none; }
.grid-line { stroke:var(--line); stroke-width:1; }
.truth { stroke:var(--fg); stroke-width:1.2; } .predicted { stroke:var(--mark); stroke-width:1.8; }
.baseline { stroke:var(--dim); stroke-width:1.2; stroke-dasharray:5 4; }
.truth, .predicted { stroke-linecap:round; stroke-linejoin:round; }
.dots { stroke:var(--mark); stroke-width:3.5; stroke-linecap:round; stroke-opacity:.55; }
.key span { display:inline-block; margin-right:1rem; }
.key i { display:inline-block; width:1.6rem; border-top:2px solid; vertical-align:middle;
margin-right:.4rem; } .key .t { border-color:var(--fg); } .key .p { border-color:var(--mark);
border-top-width:3px; } .key .b { border-color:var(--dim); border-top-style:dashed; }
.strip { display:flex; gap:.3rem; overflow-x:auto; padding:0 0 .3rem; margin:.3rem 0; list-style:none; }
.strip li { flex:none; text-align:center; font-size:.75rem; color:var(--dim); }
.strip img { display:block; height:6rem; width:auto; }
.signals { display:flex; flex-wrap:wrap; gap:.3rem 1rem; } .signals > span { width:10rem; font-size:.75rem;
  color:var(--dim); } .spark { background:var(--card); border-radius:.2rem; }
dl { display:grid; grid-template-columns:minmax(7rem,max-content) 1fr; gap:.2rem 1rem; margin:.4rem 0; }
dt { color:var(--dim); } dd { margin:0; } code { font-family:ui-monospace,Menlo,Consolas,monospace;
  font-size:.875rem; unicode-bidi:isolate; }
@media (max-width:32rem) { dl { grid-template-columns:1fr; gap:0; } dd { margin-bottom:.5rem; } }
"""
