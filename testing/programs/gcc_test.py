"""gcc_test -- g++ compiles, links and runs template-heavy C++."""

import harness

GXX = "/usr/bin/g++"
TYPES = 14

HEAD = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct Fib {
  static constexpr unsigned long value = Fib<N - 1>::value + Fib<N - 2>::value;
};
template <> struct Fib<0> { static constexpr unsigned long value = 0; };
template <> struct Fib<1> { static constexpr unsigned long value = 1; };
template <class... T> struct Row : std::tuple<T...> {
  using std::tuple<T...>::tuple;
  template <size_t... I> std::string show(std::index_sequence<I...>) const {
    std::ostringstream out;
    ((out << std::get<I>(*this) << ','), ...);
    return out.str();
  }
  std::string show() const { return show(std::index_sequence_for<T...>()); }
};
"""
ONE = """
struct Thing{n} {{
  std::map<std::string, std::vector<Row<int, std::string, double>>> rows;
  std::unordered_map<int, std::variant<int, std::string, double>> any;
  std::function<std::string(int)> name;
  Thing{n}() : name([this](int i) {{ return "t{n}." + std::to_string(i); }}) {{
    for (int i = 0; i < 300; i++) {{
      rows[name(i % 17)].emplace_back(i, name(i), i / 4.0);
      if (i % 3) any[i] = name(i); else any[i] = i * {n};
    }}
  }}
  std::string show() const {{
    std::string all;
    for (auto const &[key, list] : rows) {{
      auto copy = list;
      std::stable_sort(copy.begin(), copy.end(),
        [](auto const &a, auto const &b) {{ return a.show() < b.show(); }});
      all += key + "=" + copy.front().show() + copy.back().show();
    }}
    size_t sum = Fib<{n} + 40>::value % 1000003;
    for (int i = 0; i < 300; i++)
      sum += std::visit([](auto const &v) {{
        std::ostringstream out; out << v; return out.str().size();
      }}, any.at(i));
    return all + std::to_string(sum);
  }}
}};
"""


def source():
    things = "".join(ONE.format(n=n) for n in range(TYPES))
    lines = "".join(
        "  std::cout << std::make_unique<Thing%d>()->show() << '\\n';\n" % n
        for n in range(TYPES)
    )
    return HEAD + things + "int main() {\n" + lines + "}\n"


def work(side):
    side.write("things.cc", source())
    flags = ["-std=c++17", "-g", "-O1", "-frandom-seed=1"]
    # Debug information names the folder, unless it is mapped away.
    flags += ["-ffile-prefix-map=%s=." % side.folder]
    side.run([GXX] + flags + ["-c", "things.cc", "-o", "things.o"])
    side.run([GXX, "things.o", "-o", "things"])
    out = side.run([side.path("things")])
    side.expect_served(processes=7)  # g++, cc1plus, as, g++, collect2, ld, it
    with open(side.path("things.o"), "rb") as compiled:
        binary = compiled.read()
    return {
        "object": "%d bytes, %s" % (len(binary), harness.digest(binary)),
        "output of the program": harness.digest(out),
    }


if __name__ == "__main__":
    harness.main(work)
