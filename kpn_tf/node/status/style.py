"""How the status page looks: on a phone and on a wide screen, by day and by night.

Blue and vermilion stay apart for every kind of colour vision (Okabe and Ito, "Color Universal Design", 2008).
"""

STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --ink: #1b1f24; --dim: #57606a; --line: #d8dde3;
  --good: #0060a8; --bad: #a63c00; }
@media (prefers-color-scheme: dark) { :root { --page: #101418; --card: #1a2027; --ink: #e8ecf0; --dim: #a3adb8;
  --line: #333c46; --good: #6cb8f0; --bad: #ff9d5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.4 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0; } .dim, dt, th, footer { color: var(--dim); font-size: .85rem; }
.verdict, table, dl, .card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.verdict { margin: 1rem 0 0; padding: .75rem 1rem; border-left: .5rem solid var(--good); }
.verdict.bad { border-left-color: var(--bad); } .verdict ul { margin: .25rem 0 0; padding-left: 1.2rem; }
.good { color: var(--good); } .bad strong, strong.bad { color: var(--bad); } .card { padding: .75rem 1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem 1rem; margin: 0;
  padding: .75rem 1rem; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
dd small { display: block; color: var(--dim); font-size: .8rem; }
progress { width: 100%; height: .6rem; accent-color: var(--good); } code { font-size: .95em; }
table { width: 100%; border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem; text-align: left; vertical-align: top; } td { border-top: 1px solid var(--line); }
th { font-weight: normal; } th, td { white-space: nowrap; }
.words, .wide { white-space: normal; overflow-wrap: anywhere; } .words { min-width: 7rem; }
@media (max-width: 64rem) {
  table, tbody { display: block; } thead { position: absolute; clip-path: inset(50%); }
  tr { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .5rem 1rem; }
  tr + tr { border-top: 1px solid var(--line); }
  td { border: 0; padding: 0; white-space: normal; overflow-wrap: anywhere; }
  .words { min-width: 0; } td:empty { display: none; }
  td::before { content: attr(data-label); display: block; color: var(--dim); font-size: .8rem; }
  td.wide { flex-basis: 100%; } }
footer { margin: 1.5rem 0 0; }
"""
