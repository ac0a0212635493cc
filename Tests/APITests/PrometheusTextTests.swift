import Foundation
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

@Suite struct PrometheusTextTests {
    @Test func writesDescriptionTypeAndSamples() {
        var text = PrometheusText()
        text.metric("a_total", .counter, "Things.")
        text.sample("a_total", ["kind": "x", "code": ""], 3)
        text.sample("a_total", [:], 0.25)
        text.single("b", .gauge, "Other things.", -1)
        #expect(
            text.text == """
                # HELP a_total Things.
                # TYPE a_total counter
                a_total{kind="x",code=""} 3
                a_total 0.25
                # HELP b Other things.
                # TYPE b gauge
                b -1

                """)
    }

    /// In a label `\`, `"` and line feeds are escaped, in a description all but `"`; everything else is UTF-8 as it is.
    @Test func escapes() {
        var text = PrometheusText()
        text.metric("a", .gauge, "C:\\ \"x\"\ny")
        text.sample("a", ["url": "http://ä/\\\"\n"], 1)
        let lines = text.text.split(separator: "\n")
        #expect(lines[0] == #"# HELP a C:\\ "x"\ny"#)
        #expect(lines[2] == #"a{url="http://ä/\\\"\n"} 1"#)
    }

    @Test(
        arguments: [
            (0, "0"), (1, "1"), (0.5, "0.5"), (-2, "-2"), (1e20, "1e+20"), (0.0005, "0.0005"), (.infinity, "+Inf"), (-.infinity, "-Inf"), (.nan, "NaN"),
            (1_795_517_731.25, "1795517731.25"),
        ] as [(Double, String)])
    func writesNumbers(_ value: Double, _ text: String) {
        #expect(PrometheusText.number(value) == text)
    }

    @Test func writesHistogramsCumulatively() {
        let histogram = Histogram(bounds: [0.1, 1])
        for milliseconds in [50, 100, 101, 1000, 5000] { histogram.observe(.milliseconds(milliseconds)) }
        var text = PrometheusText()
        text.metric("t_seconds", .histogram, "Time.")
        text.samples("t_seconds", ["phase": "a"], of: histogram)
        #expect(
            text.text.split(separator: "\n").dropFirst(2) == [
                #"t_seconds_bucket{phase="a",le="0.1"} 2"#, #"t_seconds_bucket{phase="a",le="1"} 4"#, #"t_seconds_bucket{phase="a",le="+Inf"} 5"#,
                #"t_seconds_sum{phase="a"} 6.251"#, #"t_seconds_count{phase="a"} 5"#,
            ])
    }
}

@Suite struct HistogramTests {
    @Test func aClockThatWasSetBackCountsAsNoTime() {
        let histogram = Histogram(bounds: [1])
        histogram.observe(.seconds(-3600))
        #expect(histogram.reading == .init(cumulative: [1], count: 1, sum: 0))
    }

    @Test func losesNothingBetweenThreads() async {
        let histogram = Histogram(bounds: [0.001, 0.01])
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask { for _ in 0..<1000 { histogram.observe(task < 4 ? .milliseconds(1) : .milliseconds(10)) } }
            }
        }
        #expect(histogram.reading.cumulative == [4000, 8000])
        #expect(histogram.reading.count == 8000)
        #expect(abs(histogram.reading.sum - 44) < 1e-6)
    }
}

@Suite struct RequestCountsTests {
    @Test func labelsAreThoseOfTheRoutesWhateverIsAskedFor() {
        let counts = RequestCounts(routes: [("GET", "/a/{id}"), ("HEAD", "/a/{id}")])
        counts.count(method: "GET", route: "/a/{id}", status: 200)
        counts.count(method: "GET", route: "/a/{id}", status: 200)
        counts.count(method: "GET", route: "/a/{id}", status: 299)
        for number in 0..<1000 {
            counts.count(method: "M\(number)", route: nil, status: 404)
            counts.count(method: "PATCH", route: nil, status: 600 + number)
        }
        let lines = counts.readings.map { "\($0.method) \($0.route) \($0.status) \($0.count)" }
        #expect(lines == ["GET /a/{id} 200 2", "GET /a/{id} other 1", "PATCH other other 1000", "other other 404 1000"])
    }
}

@Suite struct MetricsReportTests {
    /// Every line is a description, a type or a sample, each metric stands together under both, and no sample comes twice.
    @Test func isWellFormed() throws {
        let metrics = Metrics()
        metrics.observe(.finish, .milliseconds(3))
        let requests = RequestCounts(routes: [("GET", "/x")])
        requests.count(method: "GET", route: "/x", status: 200)
        let text = MetricsReport(
            version: "1", jobs: [.queued: 2], queueDepth: 2, queueLimit: 5,
            comfyUIs: [.init(url: "http://a:1", isConnected: true, isInRotation: true, reconnects: 1, openPrompts: 2, silence: .milliseconds(1500))], usage: ProcessUsage()
        ).text(metrics, requests: requests.readings, openConnections: 3)
        var metric = ""
        var described: Set<Substring> = []
        var samples: Set<Substring> = []
        for line in text.split(separator: "\n") {
            if let match = line.wholeMatch(of: /# HELP (\w+) .+/) {
                #expect(described.insert(match.output.1).inserted)
                metric = String(match.output.1)
            } else if let match = line.wholeMatch(of: /# TYPE (\w+) (counter|gauge|histogram)/) {
                #expect(match.output.1 == metric)
                #expect((match.output.2 == "counter") == metric.hasSuffix("_total"))
            } else {
                let match = try #require(line.wholeMatch(of: /(\w+)(\{[^}]*\})? [-+.\dInfNae]+/), "\(line)")
                #expect(match.output.1 == metric || ["_bucket", "_sum", "_count"].contains { metric + $0 == match.output.1 }, "\(line)")
                #expect(samples.insert(line[..<(line.lastIndex(of: " ") ?? line.endIndex)]).inserted, "\(line)")
            }
        }
        #expect(text.contains("comfy_bridge_comfyui_silent_seconds{url=\"http://a:1\"} 1.5\n"))
        #expect(text.contains("comfy_bridge_http_requests_total{route=\"/x\",method=\"GET\",status=\"200\"} 1\n"))
        #expect(text.contains("comfy_bridge_jobs_ended_total{status=\"succeeded\",code=\"\"} 0\n"))
        let count = text.matches(of: /comfy_bridge_overhead_seconds_count\{phase="finish"\} 1\n/).count
        #expect(count == 1)
    }

    @Test func knowsItsProcess() throws {
        let usage = ProcessUsage()
        #expect(try #require(usage.residentMemory) > 1 << 20)
        #expect(try #require(usage.virtualMemory) >= usage.residentMemory ?? 0)
        #expect(try #require(usage.openDescriptors) >= 3)
        #expect(try #require(usage.descriptorLimit) >= usage.openDescriptors ?? 0)
        #expect(try #require(usage.processorTime) > 0)
        let age = Date().timeIntervalSince1970 - (try #require(usage.startTime))
        #expect(age > -2 && age < 86_400)
    }
}
