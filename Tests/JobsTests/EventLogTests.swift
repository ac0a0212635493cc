import Testing

@testable import Jobs

@Suite struct EventLogTests {
    private func log(_ events: [JobEvent], previewLimit: Int = 3) -> EventLog {
        var log = EventLog(previewLimit: previewLimit)
        for event in events { log.append(event) }
        return log
    }

    private static func preview(_ number: Int) -> JobEvent {
        .preview(Preview(number: number, node: "1", contentType: "image/jpeg", bytes: [UInt8(number)]))
    }

    private static func entry(_ text: String) -> JobEvent { .log(LogEntry(.info, text)) }
    private static func progress(_ value: Double) -> JobEvent { .progress(JobProgress(value: value, nodesDone: 0, nodesTotal: 1)) }

    /// A short form: `log:a`, `preview:3`, `progress:0.5`, `position:2`, `status:queued`.
    private func names(_ events: [LoggedEvent]) -> [String] {
        events.map { logged in
            switch logged.event {
            case .status(let status, _): "status:\(status.rawValue)"
            case .queuePosition(let position): "position:\(position)"
            case .progress(let progress): "progress:\(progress.value)"
            case .preview(let preview): "preview:\(preview.number)"
            case .node(let node): "node:\(node.node)"
            case .output(let output): "output:\(output.name)"
            case .log(let entry): "log:\(entry.message)"
            case .comfyui(let raw): "comfyui:\(raw)"
            }
        }
    }

    @Test func hugePreviewsDoNotPileUp() {
        var log = EventLog(previewLimit: 16)
        func publish(_ number: Int, _ size: Int) {
            log.append(.preview(Preview(number: number, node: "1", contentType: "image/png", bytes: [UInt8](repeating: 0, count: size))))
        }
        for number in 1...5 { publish(number, EventLog.previewBytesLimit / 3) }
        #expect(names(Array(log.previews)) == ["preview:3", "preview:4", "preview:5"])
        publish(6, EventLog.previewBytesLimit * 2)
        #expect(names(Array(log.previews)) == ["preview:6"])
        for number in 7...30 { publish(number, 1) }
        #expect(log.previews.count == 16)
    }

    @Test func aViewerThatKeepsUpGetsEverythingInOrder() {
        var log = EventLog(previewLimit: 3)
        var cursor: UInt64 = 0
        var seen: [String] = []
        for number in 1...10 {
            for event in [Self.progress(Double(number) / 10), Self.preview(number), Self.entry("\(number)")] {
                log.append(event)
                let events = log.events(after: cursor, limit: 16)
                cursor = events.last?.sequence ?? cursor
                seen += names(events)
            }
        }
        #expect(seen == (1...10).flatMap { ["progress:\(Double($0) / 10)", "preview:\($0)", "log:\($0)"] })
    }

    @Test func aViewerThatFallsBehindMissesOnlyWhatWasSuperseded() {
        let events = (1...10).flatMap { [Self.progress(Double($0) / 10), Self.preview($0), Self.entry("\($0)")] }
        let log = log(events)
        let expected = (1...7).map { "log:\($0)" } + ["preview:8", "log:8", "preview:9", "log:9", "progress:1.0", "preview:10", "log:10"]
        #expect(names(log.events(after: 0, limit: 100)) == expected)
    }

    @Test("Batches of any size add up to the same", arguments: [1, 2, 5, 16, 100])
    func batches(_ limit: Int) {
        let log = log((1...20).flatMap { [Self.entry("a\($0)"), Self.preview($0), .queuePosition($0)] }, previewLimit: 100)
        var cursor: UInt64 = 0
        var seen: [String] = []
        while true {
            let events = log.events(after: cursor, limit: limit)
            guard let last = events.last else { break }
            #expect(events.count <= limit)
            cursor = last.sequence
            seen += names(events)
        }
        #expect(seen == (1...20).flatMap { $0 == 20 ? ["log:a20", "preview:20", "position:20"] : ["log:a\($0)", "preview:\($0)"] })
    }

    @Test func idsCountOnlyWhatIsReplayed() {
        let log = log([.status(.queued, error: nil), Self.progress(0.1), Self.preview(1), Self.entry("a"), .status(.succeeded, error: nil)])
        #expect(log.events(after: 0, limit: 10).map(\.id) == [1, nil, nil, 2, 3])
    }

    @Test("A viewer comes back after an id", arguments: [(0, ["log:1", "log:2", "log:3"]), (1, ["log:2", "log:3"]), (3, [])] as [(UInt64, [String])])
    func replay(_ id: UInt64, _ expected: [String]) throws {
        let log = log([Self.entry("1"), Self.entry("2"), Self.entry("3")])
        #expect(names(log.events(after: try #require(log.cursor(afterID: id)), limit: 10)) == expected)
    }

    @Test func idsThatAreNotKeptAreSaid() throws {
        let log = log((1...EventLog.replayLimit + 5).map { Self.entry("\($0)") })
        #expect(log.firstReplayableID == 6)
        #expect(log.cursor(afterID: 4) == nil)
        #expect(names(log.events(after: try #require(log.cursor(afterID: 5)), limit: 1)) == ["log:6"])
    }
}
