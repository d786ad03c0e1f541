package attach

import (
	"strings"

	"github.com/fairlead/fairlead/bench/report"
)

func (r *results) plots() []report.Plot {
	up := report.Plot{Name: "attach", Title: "Attach with one published port: median, and p99", X: "ms", LogX: true}
	down := report.Plot{Name: "detach", Title: "Detach, until address and port are used again: median, and p99", X: "ms", LogX: true}
	share := report.Plot{Name: "attach-share", Title: "Attachments with one published port that took no longer", X: "ms", Y: "%", LogX: true}
	at := report.Plot{Name: "attach-burst", Title: "Attachments at once that took no longer", X: "ms", Y: "%"}
	for _, d := range described {
		c := r.cycles[kindDefault][d.subject]
		if len(c) == 0 {
			continue
		}
		up.Bars = append(up.Bars, report.Bar{Label: d.title, Value: report.Median(ups(c)), High: report.Quantile(ups(c), 0.99)})
		down.Bars = append(down.Bars, report.Bar{Label: d.title, Value: report.Median(downs(c)), High: report.Quantile(downs(c), 0.99)})
		share.Lines = append(share.Lines, report.Share(d.title, ups(c)))
		if burst, _ := r.burstTimes(d.subject); len(burst) > 0 {
			at.Lines = append(at.Lines, report.Share(d.title, burst))
		}
	}
	ports := report.Plot{Name: "attach-ports", Title: "Attach with many published ports", X: "ports", Y: "ms", LogX: true, LogY: true}
	for _, form := range []shape{{0, false, true}, {0, true, true}, {0, false, false}, {0, true, false}} {
		for _, d := range described {
			line := report.Line{Name: strings.ReplaceAll(d.title, "`", "") + ", " + form.form() + ", families: " + form.families()}
			for _, sh := range r.shapes() {
				if all := r.many[sh][d.subject]; sh.Range == form.Range && sh.Only4 == form.Only4 && len(all) > 0 {
					line.Points = append(line.Points, report.Point{X: float64(sh.Ports), Y: report.Median(manyUps(all))})
				}
			}
			if len(line.Points) > 0 {
				ports.Lines = append(ports.Lines, line)
			}
		}
	}
	return []report.Plot{up, down, share, ports, at}
}
