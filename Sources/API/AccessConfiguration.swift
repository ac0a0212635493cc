/// Who may use the bridge.
package struct AccessConfiguration: Sendable {
    /// Empty: everybody who reaches it.
    package var tokens: [String] = []
    /// Seconds.
    package var urlLifetime = 3600
    package var crossOrigin = CrossOrigin()
    /// In lower case.
    package var allowedHosts: Set<String> = []
    /// The origin of `--public-url`.
    package var publicOrigin: Origin?
    /// What a person should know who lets the bridge run like this.
    package var warnings: [String] = []

    package init() {}
}
