import Bridge
import ComfyUI
import Foundation
import Wording

/// `comfy-bridge [serve|simulate|health] [options]`
@main
struct Main {
    static func main() async {
        var arguments = Array(CommandLine.arguments.dropFirst())
        let command = arguments.first.flatMap { $0.hasPrefix("-") ? nil : $0 } ?? "serve"
        if arguments.first == command { arguments.removeFirst() }
        do {
            switch command {
            case _ where arguments.contains("--help"), "help": print(help)
            case "serve" where arguments == ["--version"], "version": print("comfy-bridge \(ComfyBridge.version)")
            case "serve": try await serve(arguments)
            case "simulate": try await simulate(arguments)
            case "health": try await checkHealth(arguments)
            default: throw ConfigurationError("'\(command)' is not a command; there are serve, simulate and health. See --help.")
            }
        } catch {
            FileHandle.standardError.write(Data("comfy-bridge: \(LogText.visible(NetworkWords.of(error)))\n".utf8))
            exit(error is ConfigurationError ? 2 : 1)
        }
    }

    private static let help = """
        comfy-bridge: POST a ComfyUI workflow, get the result.

        comfy-bridge [serve] [options]   the bridge, in front of a ComfyUI
        \(OptionReader.help(BridgeConfiguration.options))

        comfy-bridge simulate [options]  a ComfyUI look-alike to try things with
        \(OptionReader.help(simulatorOptions))

        comfy-bridge health [options]    asks a running bridge; exit status 0 if it is well
        \(OptionReader.help(healthOptions))

        Every option is also read from the environment: --queue-limit from COMFY_BRIDGE_QUEUE_LIMIT, and so on.
        """
}
