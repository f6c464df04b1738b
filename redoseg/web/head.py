"""What stands in the page's head: its styles and its own script."""

from __future__ import annotations

CSS = """
.gradio-container { width: 100%; max-width: 1400px !important; margin: 0 auto; }
.gradio-container h1 { margin: 0; }
#save-mask, #save-cutout, #save-soft { white-space: nowrap; padding-inline: 4px; }
@media (max-width: 480px) { #save-mask, #save-cutout, #save-soft { font-size: 12px; } }
#several:empty { display: none; }
#said { min-height: 1.6em; }
#photo img, #overlay img, #mask img, #cutout img { width: 100%; height: 100%; object-fit: contain; }
footer { opacity: .6; }
"""

# Of several files that are dropped or pasted, gradio takes the first and says nothing. This stands in the page's head,
# so that it is there before a file can be dropped, and writes again into an element that gradio makes late or again.
HEAD = """<script>{
    let text = "";
    const write = () => {
        const said = document.getElementById("several");
        if (said && said.textContent !== text) said.textContent = text;
    };
    const seen = data => {
        if (!data || !data.files.length) return;
        const count = data.files.length;
        text = count < 2 ? "" :
            `${count} photographs were dropped. This page takes one at a time, the first: ${data.files[0].name}. ` +
            "For several, drop them one after another, or run redoseg segment on their folder.";
        write();
    };
    document.addEventListener("drop", event => seen(event.dataTransfer), true);
    document.addEventListener("paste", event => seen(event.clipboardData), true);
    new MutationObserver(write).observe(document, {childList: true, subtree: true});
}</script>"""
