"""What stands in the page's head: its styles and its own script."""

from __future__ import annotations

CSS = """
.gradio-container { width: 100%; max-width: 1400px !important; margin: 0 auto; }
.gradio-container h1 { margin: 0; }
#save-mask, #save-cutout, #save-soft { white-space: nowrap; padding-inline: 4px; }
@media (max-width: 480px) {
    #save-mask, #save-cutout, #save-soft { font-size: 12px; }
    .tab-container button { padding-inline: 8px !important; font-size: 14px !important; }
    #compare { height: 290px !important; }
    #overlay, #mask, #cutout { height: 180px !important; }
}
#several:empty { display: none; }
#said, #several-said, #correct-said { min-height: 1.6em; }
#photo img, #overlay img, #mask img, #cutout img { width: 100%; height: 100%; object-fit: contain; }
#compare [data-testid=slider] { outline-offset: 3px; }
#tiles .grid-container { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important; padding-top: 24px; }
footer { opacity: .6; }
"""

# It stands in the page's head, so that it is there before a file can be dropped.
# 1. Of several files that are dropped or pasted on the first tab, gradio takes the first and says nothing.
#    The line about it is written again into an element that gradio makes late or again.
# 2. Gradio's slider can be moved by a mouse or a finger alone. Keys do here what these would.
HEAD = """<script>{
    let text = "";
    const write = () => {
        const said = document.getElementById("several");
        if (said && said.textContent !== text) said.textContent = text;
    };
    const seen = (data, target) => {
        if (!data || !data.files.length || (target.closest && target.closest("#photos"))) return;
        const count = data.files.length;
        text = count < 2 ? "" :
            `${count} photographs were dropped. This tab takes one at a time, the first: ${data.files[0].name}. ` +
            "The tab Several takes all.";
        write();
    };
    document.addEventListener("drop", event => seen(event.dataTransfer, event.target), true);
    document.addEventListener("paste", event => seen(event.clipboardData, event.target), true);

    const line = () => document.querySelector("#compare [data-testid=slider]");
    const middle = element => {
        const box = element.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    };
    const name = () => {
        const slider = line();
        if (!slider || slider.tabIndex === 0) return;
        slider.tabIndex = 0;
        slider.setAttribute("role", "slider");
        slider.setAttribute("aria-label", "Before and after. The arrow keys move the line, plus and minus zoom.");
        state();
    };
    const state = () => {
        const slider = line(), image = document.querySelector("#compare .content");
        if (!image) return;
        const box = image.getBoundingClientRect();
        const share = Math.round(100 * (middle(slider)[0] - box.left) / box.width);
        slider.setAttribute("aria-valuenow", Math.min(100, Math.max(0, share)));
    };
    const mouse = (element, x, y, across, down) => {
        const at = (kind, x, y) => new MouseEvent(
            kind, {bubbles: true, cancelable: true, view: window, clientX: x, clientY: y, buttons: 1});
        element.dispatchEvent(at("mousedown", x, y));
        for (const share of [0.5, 1]) window.dispatchEvent(at("mousemove", x + share * across, y + share * down));
        window.dispatchEvent(at("mouseup", x + across, y + down));
    };
    document.addEventListener("keydown", event => {
        const slider = line();
        if (!slider || event.target !== slider || event.ctrlKey || event.metaKey || event.altKey) return;
        const [x, y] = middle(slider), step = {ArrowLeft: -20, ArrowRight: 20}[event.key];
        const zoom = {"+": -100, "=": -100, "-": 100}[event.key];
        if (step) mouse(slider, x, y, step, 0);
        else if (zoom) {
            const image = document.querySelector("#compare img");
            for (let i = 0; i < 4; i++) image.dispatchEvent(new WheelEvent(
                "wheel", {bubbles: true, cancelable: true, deltaY: zoom, clientX: x, clientY: y}));
        } else return;
        event.preventDefault();
        requestAnimationFrame(state);
    });
    new MutationObserver(() => { write(); name(); }).observe(document, {childList: true, subtree: true});
}</script>"""
