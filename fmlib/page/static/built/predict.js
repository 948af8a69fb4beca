// of e49477ea47e095f2d640b5eeccdafa160a9ec25174d29e13628aaa42c9ce9ea6
const $look=(()=>{const e=`
.fm-player { --fm-page: var(--jp-layout-color0, light-dark(#fff, #161616)); position: relative; --fm-ink: var(--jp-content-font-color1, light-dark(#1b1b1b, #e8e8e8));
--fm-faint: var(--jp-content-font-color3, light-dark(#6b6b6b, #999)); color: var(--fm-ink);
font: 13px/1.4 var(--jp-content-font-family, system-ui, sans-serif); max-width: 840px; }
.fm-panels { display: flex; flex-wrap: wrap; gap: 8px; }
.fm-panel { flex: 0 1 calc((100% - 8px * (var(--fm-columns) - 1)) / var(--fm-columns)); max-width: 560px;
margin: 0; min-width: min(200px, 100%); }
.fm-panel figcaption { text-align: center; }
.fm-panel canvas { width: 100%; display: block; border-radius: 4px; cursor: crosshair; }
.fm-row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin-top: 6px; }
.fm-row label { display: flex; align-items: center; gap: 6px; flex: 1 1 20em; min-width: 0; }
.fm-row label.fm-small { flex: 0 0 auto; }
.fm-row input[type=range] { flex: 1; min-width: 80px; min-height: 24px; accent-color: #0072B2; }
.fm-row button, .fm-row select { font: inherit; color: inherit; background: transparent; padding: 2px 10px;
border: 1px solid var(--fm-faint); border-radius: 4px; min-height: 28px; }
.fm-row select option { color: #1b1b1b; background: #fff; }
.fm-row output { min-width: 5.5em; font-variant-numeric: tabular-nums; }
.fm-player :focus-visible { outline: 3px solid #E69F00; outline-offset: 2px; }
.jupyter-widgets-disconnected:has(> .fm-player)::before { content: none; }
.fm-scene { position: relative; max-width: min(640px, 52vh * (var(--fm-aspect))); touch-action: manipulation; }
.fm-scene canvas { width: 100%; display: block; border-radius: 4px; cursor: crosshair; }
.fm-handle { position: absolute; width: 28px; height: 28px; margin: -14px 0 0 -14px; padding: 0; border: 0;
background: transparent; cursor: grab; touch-action: none; border-radius: 50%; }
.fm-handle::before { content: ""; position: absolute; inset: 7px; border-radius: 50%; border: 2px solid #fff;
background: #E69F00; box-shadow: 0 0 0 1px #1b1b1b; }
.fm-handle.fm-width::before { inset: 9px; background: #fff; border-color: #E69F00; }
.fm-handle.fm-probe::before { background: var(--fm-ink); }
.fm-handle.fm-weight::before { inset: 9px; border-radius: 2px; background: #fff; border-color: #E69F00; }
.fm-handle.fm-box::before, .fm-handle.fm-corner::before { border-radius: 2px; background: var(--fm-ink); }
.fm-drawing .fm-handle { display: none; } .fm-drawing canvas { touch-action: none; cursor: cell; }
.fm-spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.fm-row button[aria-pressed=true] { background: #0072B2; color: #fff; border-color: #0072B2; }
@media (forced-colors: active) { .fm-handle::before { forced-color-adjust: none; }
.fm-row button[aria-pressed=true] { forced-color-adjust: none; background: Highlight; color: HighlightText; } }
.fm-handle:active { cursor: grabbing; } .fm-handle.fm-outside { opacity: 0.4; }
.fm-tour { display: flex; gap: 8px; align-items: baseline; margin: 0 0 6px; max-width: 640px; }
.fm-tour p { flex: 1; margin: 0; min-height: 2.8em; font-size: 14px; }
.fm-tour button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--fm-faint);
border-radius: 4px; min-height: 28px; padding: 2px 10px; } .fm-tour button:disabled { opacity: 0.4; }
.fm-predict { border-left: 4px solid #56B4E9; padding: 2px 14px 8px; }
.fm-question { margin: 4px 0; font-size: 15px; max-width: 640px; } .fm-told { min-height: 1.4em; margin-top: 6px; max-width: 640px; }
.fm-choices label { display: block; padding: 3px 0; } .fm-choices .fm-right { font-weight: 600; }
.fm-refused:empty { display: none; } .fm-refused { border-left: 4px solid #D55E00; padding-left: 8px; margin: 6px 0; }
.fm-readout { min-height: 1.4em; margin-top: 6px; font-variant-numeric: tabular-nums; }
`;return{CSS:e}})(),$controls=(()=>{const{CSS:t}=$look;function e(e,t={},n=null,s=""){const o=document.createElement(e);for(const[e,n]of Object.entries(t))o.setAttribute(e,n);return s&&(o.textContent=s),n&&n.append(o),o}function n(n,s){const o=e("div",{class:"fm-player",role:"group","aria-label":s},n);return o.dataset.lmSuppressShortcuts="",e("style",{},o,t),o}const s=(e,t,n)=>Math.min(n,Math.max(t,e));function o(t){return e("div",{class:"fm-row"},t)}function i(t,n,s){const i=e("label",{},t,n),o=e("input",{type:"range",...s},i),a=e("output",{},i),r=(e,t,n=t)=>{o.value=e,a.textContent=t,o.setAttribute("aria-valuetext",n)};return{input:o,show:r}}function a(t,n,s,o=String){const i=e("select",{},e("label",{class:"fm-small"},t,n));for(const t of s)e("option",{value:t},i,o(t));return i}function r(e,t){e.addEventListener("keydown",e=>{const n=t[e.key];if(!n||e.ctrlKey||e.metaKey||e.altKey)return;e.preventDefault(),e.stopPropagation(),n(e.shiftKey)})}return{element:e,stage:n,clamp:s,row:o,slider:i,chooser:a,onKeys:r}})(),$predict=(()=>{const{element:e,onKeys:s,row:t,slider:o,stage:i}=$controls,a=1.1;function n(e,t,n){const s=e=>`${Number(e.toPrecision(3))}${n}`,o=`You said ${s(e)}; it is ${s(t)}.`;if(s(e)===s(t))return`${o} Right.`;if(!(e*t>0))return`${o} That is ${s(Math.abs(e-t))} off.`;const i=Math.max(e/t,t/e);return i<a?`${o} Right, within ${Math.ceil(100*(i-1))} %.`:`${o} That is ${i.toPrecision(2)} times too ${(e<0?-e:e)>(t<0?-t:t)?"much":"little"}.`}const r={number(e,{low:s,high:i,step:a,unit:r,answer:c}){const l=o(t(e),"your guess",{min:s,max:i,step:a}),d=e=>l.show(e,`${Number(Number(e).toPrecision(4))}${r}`);d((s+i)/2),l.input.addEventListener("input",()=>d(Number(l.input.value)));const u=e=>(d(e),n(e,c,r));return{read:()=>Number(l.input.value),say:u,inputs:[l.input]}},choice(t,{name:n,choices:s,answer:o}){const a=e("div",{class:"fm-choices",role:"radiogroup","aria-label":"your guess"},t),i=s.map((t,s)=>{const o=e("label",{},a),i=e("input",{type:"radio",name:n,value:s},o);return o.append(` ${t}`),i}),r=e=>(i[e].checked=!0,i.forEach((e,t)=>e.parentNode.classList.toggle("fm-right",t===o)),e===o?"Right.":`You said “${s[e]}”. It is “${s[o]}”.`),c=()=>i.findIndex(e=>e.checked);return{read:c,say:r,inputs:i}}};function c({model:n,el:o}){const a=n.get("_meta"),c=i(o,`Predict: ${a.question}`);c.classList.add("fm-predict"),e("p",{class:"fm-question"},c,a.question);const d=r[a.choices?"choice":"number"](c,a),u=e("button",{type:"button"},t(c),"I say so"),l=e("div",{class:"fm-told",role:"status"},c);function h(t){l.textContent="",e("strong",{},l,d.say(t)),a.because&&l.append(` ${a.because}`);for(const e of d.inputs)e.disabled=!0;u.hidden=!0}function m(){const e=d.read();if(e<0&&a.choices){l.textContent="Choose one first; a guess is enough.";return}h(e),n.send?.({said:e})}const f=({said:e})=>{typeof e=="number"&&h(e)};return u.addEventListener("click",m),s(c,{Enter:()=>!u.hidden&&m()}),n.on("msg:custom",f),n.send?.({ask:!0}),()=>{n.off("msg:custom",f),c.remove()}}return{verdict:n,render:c}})(),{verdict,render}=$predict;export{verdict};export default{render}
