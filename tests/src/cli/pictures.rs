//! `plot` and `report`: pictures of networks, and the page opened in a browser where there is one.

use super::*;

#[test]
fn plot_draws_every_stage() {
    let dir = digits("plot");
    let draw = |line: &str, name: &str| {
        let stdout = qgraph(dir.path(), &format!("plot {line} -o {name}")).works();
        assert_eq!(stdout, format!("wrote {name}\n"));
        fs::read_to_string(dir.join(name)).unwrap()
    };
    let nodes = |text: &str| text.matches("<g class=\"node\"").count();
    let graph = draw("digits.onnx", "graph.svg");
    let fused = draw("digits.onnx --stage fused", "fused.svg");
    let int8 = draw("digits.qgraph", "int8.svg");
    assert!(nodes(&graph) > nodes(&fused), "{} {}", nodes(&graph), nodes(&fused));
    for (svg, words) in [
        (&graph, &[">float<", ">input x<", ">batch_norm"][..]),
        (&fused, &[">+ relu<", ">output logits<"]),
        (&int8, &[">quantize<", ">int8<", ">conversion<", " u8<"]),
    ] {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        words.iter().for_each(|w| assert!(svg.contains(w), "no {w} in {svg}"));
        // One file, whose only address is the name of its format.
        assert_eq!(svg.matches("http").count(), 1, "{svg}");
    }
    let dot = draw("digits.qgraph --stage qgraph", "int8.dot");
    assert!(dot.starts_with("digraph \"digits\" {\n") && dot.ends_with("}\n"), "{dot}");
    assert_eq!(dot.matches("fillcolor=").count(), nodes(&int8), "{dot}");
    for (line, words) in [
        ("digits.onnx -o x.png", &["file: x.png", "name it OUT.svg or OUT.dot"][..]),
        ("digits.onnx --stage qgraph -o x.svg", &["file: digits.onnx", "qgraph quantize"]),
        ("digits.qgraph --stage fused -o x.svg", &["file: digits.qgraph", "give the .onnx"]),
        ("digits.onnx -o no/x.svg", &["file: no/x.svg", "cannot write"]),
    ] {
        qgraph(dir.path(), &format!("plot {line}")).refuses(words);
    }
}

/// A browser, if there is one.
fn browser() -> Option<&'static str> {
    let works = |name: &&str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|s| s.success())
    };
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(works);
    if found.is_none() {
        println!("skipped: no browser (apt-get install chromium)");
    }
    found
}

/// The page as the browser has it after its scripts have run.
fn opened(browser: &str, dir: &TempDir, page: &str) -> String {
    let options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                   --disable-component-update --disable-sync --disable-dev-shm-usage --virtual-time-budget=20000 --dump-dom";
    let mut command = Command::new(browser);
    command.args(options.split_whitespace());
    command.arg(format!("--user-data-dir={}", dir.join("browser").display()));
    command.arg(format!("file://{}", dir.join(page).display()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the browser starts");
    let mut out = child.stdout.take().expect("piped");
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let started = Instant::now();
    while !read.is_finished() {
        if started.elapsed() > PATIENCE {
            child.kill().expect("the child is ours");
            panic!("the browser hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait().expect("the child is ours");
    read.join().expect("reads").expect("UTF-8")
}

#[test]
fn the_report_is_one_page_with_all_its_pictures() {
    let dir = digits("report");
    let line = "report digits.onnx digits.qgraph --images test.bin --limit 60 -o report.html";
    assert_eq!(qgraph(dir.path(), line).works(), "wrote report.html\n");
    let page = fs::read_to_string(dir.join("report.html")).unwrap();
    for id in ["worst", "graphs", "layers", "noise", "time", "arena", "values"] {
        assert!(
            page.contains(&format!("<section id=\"{id}\">")) && page.contains(&format!("href=\"#{id}\""))
        );
    }
    // Nothing to fetch, by any way there is; names of formats are not addresses.
    let text = page.replace("http://www.w3.org/2000/svg", "");
    for way in
        ["http:", "https:", "src=", "url(", "@import", "fetch(", "XMLHttpRequest", "<link", "<img", "import("]
    {
        assert!(!text.contains(way), "{way} is in the page");
    }
    assert_eq!(page.matches("href=\"").count(), page.matches("href=\"#").count());
    let kinds = ["diagram", "bars", "histogram", "curve", "ranges", "blocks"];
    let count = |kind: &str| match kind {
        "diagram" => page.matches("class=\"diagram\"").count(),
        kind => page.matches(&format!("class=\"chart {kind}\"")).count(),
    };
    let times = if has_jit() { 1 } else { 0 };
    assert_eq!((count("diagram"), count("bars"), count("blocks")), (3, 2 + times, 1));
    assert!(count("histogram") >= 8 && count("curve") >= 4 && count("ranges") >= 6, "{:?}", kinds.map(count));
    assert!(page.contains("<code>qgraph quantize … --exclude "));

    let Some(browser) = browser() else { return };
    // The page watched: errors from the beginning, at the end what can be seen when everything is open, and what was fetched.
    let watch = "<script>onerror = e => { document.documentElement.dataset.error = e; };</script>";
    let look = "<script>addEventListener('load', () => {
        const zoomed = [...document.querySelectorAll('.zoom.live svg')].filter(s => s.viewBox.baseVal.width > 10).length;
        document.querySelectorAll('details').forEach(d => { d.open = true; });
        const big = e => { const b = e.getBoundingClientRect(); return b.width > 100 && b.height > 15; };
        const seen = q => [...document.querySelectorAll(q)].filter(big).length;
        const dead = [...document.querySelectorAll('svg text')].filter(t => t.getComputedTextLength() === 0).length;
        document.documentElement.dataset.seen = [zoomed, seen('svg.diagram'), seen('svg.bars'), seen('svg.histogram'), seen('svg.curve'),
            seen('svg.ranges'), seen('svg.blocks'), dead, performance.getEntriesByType('resource').length].join(' ');
    });</script>";
    let watched = page.replacen("<head>", &format!("<head>{watch}"), 1).replacen(
        "</body>",
        &format!("{look}</body>"),
        1,
    );
    fs::write(dir.join("watched.html"), watched).unwrap();
    let dom = opened(browser, &dir, "watched.html");
    let root = dom.split_once("<html").expect("a page").1.split_once('>').expect("a tag").0;
    let expected = format!("3 {} 0 0", kinds.map(|k| count(k).to_string()).join(" "));
    assert!(
        root.contains(&format!("data-seen=\"{expected}\"")) && !root.contains("data-error"),
        "{root} for {expected}"
    );
}
