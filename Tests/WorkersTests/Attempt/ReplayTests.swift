import ComfyUI
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
import Wording
@testable import Workers
@testable import Workflow

/// Every recording of real traffic, from all ComfyUI versions, through the state machine of a run.
@Suite struct ReplayTests {
    enum Expected: Equatable {
        case succeeded, interrupted
        case failed(node: String)
        /// The recording stops, or the prompt was deleted, before it ended.
        case open
    }

    /// What is not a plain success, by recording and number of the accepted prompt.
    static let expected: [String: [Int: Expected]] = [
        "delete_pending": [1: .open, 2: .open, 3: .open],
        "interrupt_running": [0: .interrupted, 1: .interrupted],
        "interrupt_uninterruptible": [0: .interrupted],
        "jobs_api": [1: .failed(node: "2"), 2: .interrupted, 4: .open],
        "jobs_cancel": [1: .interrupted, 2: .open, 3: .interrupted, 4: .open, 5: .interrupted, 6: .interrupted, 7: .open],
        "node_exception": [0: .failed(node: "2")],
        "out_of_memory": [0: .failed(node: "2"), 1: .failed(node: "2"), 2: .failed(node: "2"), 3: .failed(node: "2"), 4: .failed(node: "2")],
        "reconnect_overlap": [0: .open],
        "save_passthrough": [4: .failed(node: "3")],
        "server_crash_bad_output": [0: .open],
        "server_restart": [1: .open, 2: .open],
        "server_stop_sigint": [0: .open],
        "server_stop_sigterm": [0: .open],
        "subgraph_expansion": [2: .failed(node: "5")],
        "worker_thread_dead": [1: .open],
    ]

    @Test("Ends in the right state, with the right outputs, and progress never falls", arguments: RecordedTraffic.names)
    func endsRight(_ name: String) throws {
        let traffic = try RecordedTraffic(name)
        let scenario = name.split(separator: "/").last.map(String.init) ?? name
        for (index, prompt) in traffic.prompts.enumerated() where prompt.clientID != nil {
            if scenario == "worker_thread_dead", index == 0 {
                // The graph that kills ComfyUI's worker: it must not get that far.
                #expect(throws: WorkflowError.self) { try Workflow(checking: prompt.graph) }
                continue
            }
            let replay = try traffic.replay(prompt)
            let expected = Self.expected[scenario]?[index] ?? .succeeded
            #expect(Expected(replay.ending) == expected, "\(name) \(index)")
            #expect(replay.effectsAfterEnd == 0, "\(name) \(index)")
            #expect(replay.starts == (replay.ending == nil ? min(replay.starts, 1) : 1), "\(name) \(index)")
            #expect(zip(replay.progress, replay.progress.dropFirst()).allSatisfy { $0.value <= $1.value && $0.nodesDone <= $1.nodesDone }, "\(name) \(index)")
            #expect(replay.progress.allSatisfy { (0...1).contains($0.value) && $0.nodesDone <= $0.nodesTotal }, "\(name) \(index)")
            if expected == .succeeded {
                #expect(replay.progress.last?.value == 1, "\(name) \(index)")
                #expect(replay.progress.last?.nodesDone == replay.progress.last?.nodesTotal, "\(name) \(index)")
                let open = Set(replay.nodes.filter { $0.state == .running }.map(\.node)).subtracting(replay.nodes.filter { $0.state == .finished }.map(\.node))
                #expect(open.isEmpty, "\(name) \(index)")
            }
            let transitions = replay.nodes.map { "\($0.node) \($0.state)" }
            #expect(transitions.count == Set(transitions).count, "\(name) \(index): a node event came twice")
            // Of an id that was used twice, history has only the later run.
            if let history = traffic.history(of: prompt), replay.ending != nil, scenario != "duplicate_prompt_id" {
                let files = history.files
                // 0.3.64 also lists what other prompts left in the cache (protocol section 3.1).
                if name.hasPrefix("v0.") { #expect(Set(replay.files) == files, "\(name) \(index)") } else { #expect(files.isSuperset(of: replay.files), "\(name) \(index)") }
            }
        }
    }

    @Test("Counts what only the socket carries", arguments: [
        ("success_previews_metadata", 0, 4, 0, 0, 0), ("success_previews_legacy", 0, 4, 0, 0, 0), ("txt2img_ksampler", 1, 6, 0, 0, 0),
        ("save_image_websocket", 0, 1, 3, 0, 0), ("save_image_websocket", 1, 0, 3, 0, 0), ("save_image_websocket_legacy", 0, 2, 2, 0, 0),
        ("async_nodes", 0, 7, 0, 0, 0), ("execution_blocker", 0, 0, 0, 1, 0), ("progress_text_and_custom", 0, 0, 0, 2, 1),
    ])
    func counts(_ name: String, _ index: Int, _ previews: Int, _ captures: Int, _ logs: Int, _ natives: Int) throws {
        for version in ["", "v0.25/", "v0.33/"] {
            let traffic = try RecordedTraffic(version + name)
            let replay = try traffic.replay(traffic.prompts[index])
            #expect(replay.previews == previews)
            #expect(replay.captures == captures)
            #expect(replay.logs.count == logs)
            #expect(replay.natives == natives)
        }
    }

    @Test("Keeps every kind of output", arguments: [
        ("several_outputs_batch", 9, 1), ("text_output", 1, 4), ("audio_output", 1, 0), ("animated_webp", 2, 0), ("subgraph_expansion", 2, 0),
        ("preview_image_temp", 1, 0),
    ])
    func outputs(_ name: String, _ files: Int, _ texts: Int) throws {
        for version in ["", "v0.25/", "v0.33/"] {
            let traffic = try RecordedTraffic(version + name)
            let replay = try traffic.replay(traffic.prompts[0])
            #expect(replay.files.count == files)
            #expect(replay.texts.count == texts)
        }
    }

    @Test("Knows what comes from ComfyUI's cache, from the socket as from history", arguments: [
        ("cached_full", [[], ["3"]]), ("cached_partial", [[], []]), ("v0.25/cached_full", [[], ["3"]]), ("v0.33/cached_full", [[], ["3"]]), ("v0.25/cached_partial", [[], []]),
        ("v0.25/cache_ram_pressure", [[], [], []]), ("v0.25/intermediate_output", [[], ["2", "4"], ["2"]]), ("subgraph_expansion", [[], ["6"], []]),
        ("v0.25/subgraph_expansion", [[], ["6"], []]), ("save_image_websocket", [[], []]),
    ] as [(String, [[String]])])
    func reused(_ name: String, _ expected: [[String]]) throws {
        let traffic = try RecordedTraffic(name)
        #expect(try traffic.prompts.map { try traffic.replay($0).reusedNodes.sorted() } == expected)
        let fromHistory = try traffic.prompts.map { prompt -> [String] in
            var replay = Replay(execution: Execution(workflow: try Workflow(checking: prompt.graph), outputNodes: []))
            replay.execution.lostTouch()
            replay.perform(replay.execution.reconciled(Reconciliation(of: prompt.id, queue: .empty, history: traffic.history(of: prompt))))
            return replay.reusedNodes.sorted()
        }
        #expect(fromHistory == expected)
    }

    @Test("A node that was not seen to run is known to be reused only if nothing was missed", arguments: [(false, ["3"]), (true, [])])
    func unseen(_ hasGap: Bool, _ expected: [String]) throws {
        let graph: JSON = ["3": ["class_type": "SaveImage", "inputs": [:]]]
        var replay = Replay(execution: Execution(workflow: try Workflow(checking: graph), outputNodes: ["3"]))
        replay.perform(replay.execution.received(.executionStart(promptID: "p", timestamp: nil)))
        if hasGap { replay.execution.lostTouch() }
        replay.perform(replay.execution.received(.executed(promptID: "p", node: "3", displayNode: "3", output: ["images": [["filename": "a.png"]]])))
        #expect(replay.reusedNodes.elements == expected)
    }

    /// What the worker hears of a run whose socket breaks, is back, and then tells the rest.
    @Test("Results of the socket are lacking when the gap may have swallowed them", arguments: [
        // The run began and made everything while the socket was away.
        ([], [.executionSuccess(promptID: "p", timestamp: nil)], true),
        ([], [.executing(promptID: "p", node: "2", displayNode: nil), .executionSuccess(promptID: "p", timestamp: nil)], true),
        ([.executionStart(promptID: "p", timestamp: nil)], [.executionSuccess(promptID: "p", timestamp: nil)], true),
        // The gap was before the run, or behind it.
        ([], [.executionStart(promptID: "p", timestamp: nil), .executionSuccess(promptID: "p", timestamp: nil)], false),
        ([.executionStart(promptID: "p", timestamp: nil), .executionSuccess(promptID: "p", timestamp: nil)], [], false),
    ] as [([ComfyMessage], [ComfyMessage], Bool)])
    func lacking(_ before: [ComfyMessage], _ after: [ComfyMessage], _ lacksResults: Bool) throws {
        let graph: JSON = ["2": ["class_type": "SaveImageWebsocket", "inputs": [:]]]
        var replay = Replay(execution: Execution(workflow: try Workflow(checking: graph), outputNodes: ["2"]))
        for message in before { replay.perform(replay.execution.received(message)) }
        replay.execution.lostTouch()
        for message in after { replay.perform(replay.execution.received(message)) }
        replay.perform(replay.execution.received(.executionEnded(promptID: "p")))
        #expect(replay.wantsHistory)
        replay.perform(replay.execution.reconciled(.finished(outputs: [], .succeeded)))
        #expect(replay.ending == .succeeded)
        #expect(replay.starts == 1)
        #expect(replay.execution.lacksResults == lacksResults)
    }

    @Test("After a reconnect only history is believed", arguments: ["reconnect_mid_run", "reconnect_overlap", "v0.25/reconnect_mid_run", "v0.33/reconnect_mid_run"])
    func gap(_ name: String) throws {
        let traffic = try RecordedTraffic(name)
        let replay = try traffic.replay(traffic.prompts[0])
        #expect(replay.wantsHistory)
    }

    @Test("Servers' paths do not reach callers", arguments: [
        ("[Errno 2] No such file: '/home/me/ComfyUI/models/a.safetensors'", "[Errno 2] No such file: 'a.safetensors'"),
        (#"File "C:\comfy\nodes.py", line 3"#, #"File "nodes.py", line 3"#), ("ratio 3/4 of 1/2", "ratio 3/4 of 1/2"),
        ("see https://example.com/a/b", "see https://example.com/a/b"), ("out of memory", "out of memory"),
        ("/srv/a.py:3: (/srv/b.py, D:/x/y/ ) //srv/c.py /srv", "a.py:3: (b.py, y/ ) //srv/c.py /srv"), ("at=/a/b/c`/d/e`", "at=c`e`"),
    ])
    func paths(_ text: String, _ expected: String) {
        #expect(withoutPaths(text) == expected)
    }

    @Test("Looking for paths takes a text once", .timeLimit(.minutes(5)), arguments: ["/", "/a", "(/a", "(/x(//", "C:\\", "a:/", "'/a'/b", " /\u{301}", "a\u{315}\u{300}"])
    func costOfPaths(_ part: String) {
        let text = String(repeating: part, count: 200_000)
        #expect(withoutPaths(text).utf8.count <= text.utf8.count)
    }
}

extension ReplayTests.Expected {
    init(_ ending: Execution.Ending?) {
        switch ending {
        case nil: self = .open
        case .succeeded: self = .succeeded
        case .interrupted: self = .interrupted
        case .failed(let error): self = .failed(node: error.node ?? "")
        }
    }
}

extension HistoryEntry {
    fileprivate var files: Set<String> {
        var files: Set<String> = []
        for (node, output) in outputs {
            for (_, list) in output.object ?? [:] {
                for file in (list.array ?? []).compactMap(FileReference.init) {
                    files.insert("\(displayNodes[node] ?? node)/\(file.type)/\(file.subfolder)/\(file.filename)")
                }
            }
        }
        return files
    }
}
