extension ComfySimulator {
    /// The ComfyUI whose behavior is followed (protocol section 16a).
    package enum Compatibility: String, Sendable, CaseIterable {
        case v0_25_0 = "0.25.0"
        case v0_3_64 = "0.3.64"
    }

    /// Which results are still known to the next run (protocol section 12, "What stays cached").
    package enum CachePolicy: Sendable {
        /// Those that the next graph has too: both versions on usual machines.
        case latestGraph
        /// Also those of earlier graphs: 0.25 with much free memory. At 1000 results all are dropped.
        case everything
        /// None: 0.25 with no free memory.
        case nothing
    }

    package struct Configuration: Sendable {
        /// IPv4 or IPv6 literal, or a name.
        package var host = "127.0.0.1"
        /// 0 lets the system choose.
        package var port = 0
        package var compatibility = Compatibility.v0_25_0
        /// Extra time that each step of a sampler takes.
        package var stepDelay = Duration.zero
        /// Holds `input`, `output` and `temp`. Nil: a fresh one, removed when the simulator stops.
        package var directory: String?
        /// The longer side of sampler previews, in pixels. At least 8.
        package var previewSize = 512
        /// Like `--preview-method`: whether samplers send previews to prompts that do not say.
        package var previewsByDefault = true
        /// The names that CheckpointLoaderSimple offers.
        package var checkpoints = ["sd15.safetensors"]
        /// Bytes of a request body, beyond which the answer is 413.
        package var maximumUploadSize = 100 << 20
        package var cachePolicy = CachePolicy.latestGraph

        package init() {}
    }

    package struct Statistics: Sendable {
        package var promptsAccepted: Int
        /// How often each prompt id was started.
        package var promptsRun: [String: Int]
        /// WebSocket messages handed to sockets, one per receiver.
        package var framesSent: Int
    }
}
