extension ComfySimulator {
    /// The ComfyUI whose behavior is followed (protocol sections 16a and 16b). From the oldest to the newest.
    package enum Compatibility: String, Sendable, CaseIterable, Comparable {
        case v0_3_64 = "0.3.64"
        case v0_25_0 = "0.25.0"
        case v0_33_0 = "0.33.0"

        package static let newest = v0_33_0

        private var age: Int { Self.allCases.firstIndex(of: self) ?? 0 }

        package static func < (left: Self, right: Self) -> Bool { left.age < right.age }
    }

    /// Which results are still known to the next run (protocol section 12, "What stays cached").
    package enum CachePolicy: Sendable {
        /// Those that the next graph has too: all versions on usual machines.
        case latestGraph
        /// Also those of earlier graphs: from 0.25 on with much free memory. At 1000 results all are dropped.
        case everything
        /// None: from 0.25 on with no free memory.
        case nothing
    }

    package struct Configuration: Sendable {
        /// IPv4 or IPv6 literal, or a name.
        package var host = "127.0.0.1"
        /// 0 lets the system choose.
        package var port = 0
        package var compatibility = Compatibility.newest
        /// Extra time that each step of a sampler takes.
        package var stepDelay = Duration.zero
        /// Holds `input`, `output` and `temp`. Nil: a fresh one, removed when the simulator stops.
        package var directory: String?
        /// The longer side of sampler previews, in pixels. At least 8.
        package var previewSize = 512
        /// Every preview has exactly so many bytes, with a stamp of the moment at which it is sent (`PreviewStamp`). At least `PreviewStamp.minimumSize`. Nil: as they come.
        package var previewBytes: Int?
        /// Like `--preview-method`: whether samplers send previews to prompts that do not say.
        package var previewsByDefault = true
        /// The names that CheckpointLoaderSimple offers.
        package var checkpoints = ["sd15.safetensors"]
        /// Bytes of a request body, beyond which the answer is 413.
        package var maximumUploadSize = 100 << 20
        package var cachePolicy = CachePolicy.latestGraph
        /// Armed from the start.
        package var faults: [FaultOrder] = []
        /// For the choices of faults with a probability.
        package var faultSeed: UInt64 = 0
        /// How long the process stays away after a fault has ended it. Nil: for good.
        package var restartDelay: Duration?

        package init() {}
    }

    /// What became of a prompt id. Ids may come again, so each is a count.
    package struct PromptCounts: Sendable, Hashable {
        package var accepted = 0
        package var started = 0
        /// In any way: success, error or interrupted.
        package var finished = 0
        /// Taken out of the queue by a client.
        package var removed = 0
        /// Queued or running when the process ended.
        package var lost = 0
        /// Finished, and then the history lost it: with the process, or by a fault.
        package var forgotten = 0
    }

    package struct Statistics: Sendable {
        package var prompts: [String: PromptCounts]
        /// WebSocket messages handed to sockets, one per receiver.
        package var framesSent: Int
        package var faultsFired: [Fault.Kind: Int]
        /// Nodes whose turn came, and was not taken by a cached result.
        package var nodesBegun: Int
        /// HTTP requests that came.
        package var requests: Int

        /// Nothing is queued or runs.
        package var isIdle: Bool { prompts.values.allSatisfy { $0.accepted == $0.finished + $0.removed + $0.lost } }
        package var promptsAccepted: Int { prompts.values.reduce(0) { $0 + $1.accepted } }
        /// How often each prompt id was started.
        package var promptsRun: [String: Int] { prompts.compactMapValues { $0.started > 0 ? $0.started : nil } }
    }
}
