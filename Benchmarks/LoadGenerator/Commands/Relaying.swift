import ArgumentParser

struct Relaying: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay", abstract: "Is the least a bridge can be: answers POST /run and keeps nothing. What `run` measures on it is the floor.")

    @Option(name: .customLong("comfyui"), help: "ComfyUI, http only.")
    var comfyUI: String

    func run() async throws { try await Relay(to: Target(comfyUI)).serve() }
}
